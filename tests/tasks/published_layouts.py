"""Small made-up data in the files that the published data sets have: names, folders and keys are theirs."""

import json
import pickle
from pathlib import Path

from PIL import Image

TEN = ("net", "net", "net", "Net", "netting", "net", "mesh", "net", "net", "fence")
CAPTIONS = (
    "Green and red beer can for Tsingtao.",
    "A can of beer.",
    "A can that says Tsingtao.",
    "A red can.",
    "Beer in a restaurant.",
)
CATEGORIES = (
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "food", "id": 58, "name": "hot dog"},
)
BLOCKS = ("Caption", "Footnote", "Formula", "List-item", "Page-footer", "Page-header", "Picture", "Section-header")
BLOCKS += ("Table", "Text", "Title")


def write(file: Path, content) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def photo(file: Path, size=(48, 36)) -> None:
    """Writes a picture whose colour depends on its name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, tuple(sum(file.name.encode()) * step % 256 for step in (3, 5, 7))).save(file)


def coco_number(name: str, number: int) -> str:
    return f"COCO_{name}_{number:012d}.jpg"


def vqa_pair(root: Path, prefix: str, answer) -> None:
    """VQA v2's and OK-VQA's pairs of files: `prefix` begins the names of those with questions."""
    for number, split in enumerate(("train2014", "val2014")):
        images = [458752 + number, 262146 + number]
        text = "What is this photo taken looking through?"
        questions = [
            {"image_id": image, "question": text, "question_id": image * 1000 + k} for image in images for k in range(2)
        ]
        answers = [
            {
                "question_type": "what is this",
                "multiple_choice_answer": "net",
                "answers": [answer(given, place) for place, given in enumerate(TEN, 1)],
                "image_id": question["image_id"],
                "answer_type": "other",
                "question_id": question["question_id"],
            }
            for question in questions
        ]
        head = {"info": {"version": "2.0", "year": 2017}, "license": {"name": "CC BY 4.0"}, "data_type": "mscoco"}
        head |= {"data_subtype": split}
        tail, other = f"mscoco_{split}", prefix.replace("OpenEnded_", "")
        write(root / f"{prefix}{tail}_questions.json", head | {"task_type": "Open-Ended", "questions": questions})
        write(root / f"{other}{tail}_annotations.json", head | {"annotations": answers})
        for image in images:
            photo(root / split / coco_number(split, image))


def vqav2(root: Path) -> None:
    def answer(text, place):
        return {"answer": text, "answer_confidence": "maybe", "answer_id": place}

    vqa_pair(root / "vqav2", "v2_OpenEnded_", answer)


def okvqa(root: Path) -> None:
    def answer(text, place):
        return {"answer_id": place, "raw_answer": f"{text}s", "answer_confidence": "yes", "answer": text}

    vqa_pair(root / "okvqa", "OpenEnded_", answer)


def aokvqa(root: Path) -> None:
    for split in ("train", "val"):
        items = [
            {
                "split": split,
                "image_id": 299207 + k,
                "question_id": f"22MexNkBPpdZGX6sxbxV{split}{k}",
                "question": "What is the man by the bags awaiting?",
                "choices": ["skateboarder", "train", "delivery", "cab"],
                "correct_choice_idx": 3,
                "direct_answers": [
                    "ride",
                    "ride",
                    "bus",
                    "taxi",
                    "travelling",
                    "traffic",
                    "taxi",
                    "cab",
                    "cab",
                    "ride",
                ],
                "difficult_direct_answer": False,
                "rationales": ["A train would not be on the street."] * 3,
            }
            for k in range(3)
        ]
        write(root / "aokvqa" / f"aokvqa_v1p0_{split}.json", items)
        for item in items:
            photo(root / "aokvqa" / f"{split}2017" / f"{item['image_id']:012d}.jpg")


def gqa(root: Path) -> None:
    for number, split in enumerate(("train_balanced", "val_balanced", "testdev_balanced")):
        ids = [f"{2354786 + 10 * number + k}" for k in range(2)]
        questions = {
            f"0293015{number}{image[-1]}": {
                "semantic": [{"operation": "select", "dependencies": [], "argument": "sky (2486325)"}],
                "entailed": [],
                "question": "Is the sky dark?",
                "imageId": image,
                "isBalanced": True,
                "groups": {"global": None, "local": "06-sky_dark"},
                "answer": "yes",
                "types": {"detailed": "verifyAttr", "semantic": "attr", "structural": "verify"},
                "fullAnswer": "Yes, the sky is dark.",
            }
            for image in ids
        }
        write(root / "gqa" / f"{split}_questions.json", questions)
        for image in ids:
            photo(root / "gqa" / "images" / f"{image}.jpg")


def textvqa(root: Path) -> None:
    for split in ("train", "val"):
        items = [
            {
                "question": "what is the brand of this camera?",
                "image_id": f"0054c91397f2fe0{k}{split}",
                "image_classes": ["Cello"],
                "image_width": 1024,
                "image_height": 730,
                "answers": ["nous les gosses", "dakota", "clos culombu", *["dakota digital"] * 7],
                "question_tokens": ["what", "is"],
                "question_id": k if split == "train" else 34602 + k,
                "set_name": split,
            }
            for k in range(3)
        ]
        head = {"dataset_type": split, "dataset_name": "textvqa", "dataset_version": "0.5.1"}
        write(root / "textvqa" / f"TextVQA_0.5.1_{split}.json", {**head, "data": items})
        for item in items:
            photo(root / "textvqa" / "train_images" / f"{item['image_id']}.jpg")


def docvqa(root: Path) -> None:
    for number, split in enumerate(("train", "val")):
        items = [
            {
                "questionId": 337 + 10 * number + k,
                "question": "what is the date mentioned in this letter?",
                "question_types": ["handwritten", "form"],
                "image": f"documents/xnbl0037_{number}{k}.png",
                "docId": 279,
                "ucsf_document_id": "xnbl0037",
                "answers": ["1/8/93", "January 8"],
                "data_split": split,
            }
            for k in range(3)
        ]
        head = {"dataset_name": "SP-DocVQA", "dataset_version": "1.0", "dataset_split": split}
        write(root / "docvqa" / "spdocvqa_qas" / f"{split}_v1.0_withQT.json", {**head, "data": items})
        for item in items:
            photo(root / "docvqa" / "spdocvqa_images" / Path(item["image"]).name)


def infovqa(root: Path) -> None:
    for number, (split, tail) in enumerate((("train", ""), ("val", "_withQT"))):
        items = [
            {
                "questionId": 65718 + 10 * number + k,
                "question": "Which team has most likes?",
                "image_local_name": f"{20471 + 10 * number + k}.jpeg",
                "image_url": "https://example.com/infographic.jpg",
                "ocr_output_file": "20471.json",
                "answers": ["Titans", "The Titans"],
                "data_split": split,
            }
            | ({"answer_type": ["single span"], "operation/reasoning": []} if tail else {})
            for k in range(3)
        ]
        head = {"dataset_name": "InfographicsVQA", "dataset_version": "1.0", "dataset_split": split}
        write(
            root / "infovqa" / "infographicsvqa_qas" / f"infographicsVQA_{split}_v1.0{tail}.json",
            head | {"data": items},
        )
        for item in items:
            photo(root / "infovqa" / "infographicsvqa_images" / item["image_local_name"])


def stvqa(root: Path) -> None:
    for split in ("train", "test"):
        items = [
            {
                "question_id": k,
                "question": "What company is this?",
                "set_name": split,
                "dataset": "coco-text",
                "file_path": f"{split}/coco-text/{coco_number('train2014', 209618 + k)}",
                "file_name": coco_number("train2014", 209618 + k),
            }
            | ({"answers": ["Microsoft"]} if split == "train" else {})
            for k in range(6)
        ]
        write(root / "stvqa" / f"{split}_task_3.json", {"task": 3, "data": items})
        for item in items:
            photo(root / "stvqa" / item["file_path"])


def chartqa(root: Path) -> None:
    for split in ("train", "val", "test"):
        for number, kind in enumerate(("human", "augmented")):
            items = [
                {"imgname": f"{split}{number}{k}.png", "query": "How many food items are shown?", "label": "14"}
                for k in range(2)
            ]
            write(root / "chartqa" / split / f"{split}_{kind}.json", items)
            for item in items:
                photo(root / "chartqa" / split / "png" / item["imgname"])


def vizwiz(root: Path) -> None:
    for split in ("train", "val"):
        items = [
            {
                "image": f"VizWiz_{split}_{k:08d}.jpg",
                "question": "What's the name of this product?",
                "answers": [
                    {"answer_confidence": "yes", "answer": text} for text in ["basil leaves"] * 8 + ["basil"] * 2
                ],
                "answer_type": "other",
                "answerable": 1,
            }
            for k in range(3)
        ]
        write(root / "vizwiz" / "Annotations" / f"{split}.json", items)
        for item in items:
            photo(root / "vizwiz" / split / item["image"])


def coco_objects(names: list[str], categories, size=(48, 36)) -> dict:
    """Returns COCO instances: two objects on each picture but the last one."""
    width, height = size
    annotations = [
        {
            "segmentation": [[4.0, 5.0, 4.0 + 10 * k, 5.0, 4.0 + 10 * k, 25.0, 4.0, 25.0]],
            "area": 200.0 * k,
            "iscrowd": 0,
            "image_id": image,
            "bbox": [4.0, 5.0, 10.0 * k, 20.0],
            "category_id": categories[k % len(categories)]["id"],
            "id": image * 10 + k,
        }
        for image in range(1, len(names))
        for k in (1, 2)
    ]
    images = [
        {"license": 1, "file_name": name, "height": height, "width": width, "id": image}
        for image, name in enumerate(names, 1)
    ]
    head = {"info": {"version": "1.0"}, "licenses": [{"id": 1, "name": "Attribution License"}]}
    return head | {"images": images, "annotations": annotations, "categories": list(categories)}


def coco(root: Path) -> None:
    """The archive's annotations folder holds captions of the same pictures beside the instances."""
    for number, split in enumerate(("train2017", "val2017")):
        names = [f"{391895 + 10 * number + k:012d}.jpg" for k in range(3)]
        content = coco_objects(names, CATEGORIES)
        captions = [
            {"image_id": image["id"], "id": image["id"] * 10 + k, "caption": CAPTIONS[k]}
            for image in content["images"]
            for k in range(5)
        ]
        folder = root / "coco" / "annotations"
        write(folder / f"instances_{split}.json", content)
        about = {key: content[key] for key in ("info", "images", "licenses")}
        write(folder / f"captions_{split}.json", about | {"annotations": captions})
        for name in names:
            photo(root / "coco" / split / name)


def coco_captions(root: Path) -> None:
    """Karpathy's one file of splits; what is neither train nor val belongs to no picture of these."""
    places = (("train", "train2014"), ("restval", "val2014"), ("train", "train2014"), ("val", "val2014"))
    images = [
        {
            "filepath": folder,
            "sentids": [10 * number + k for k in range(5)],
            "filename": coco_number(folder, 57870 + number),
            "imgid": number,
            "split": split,
            "sentences": [
                {"tokens": ["a", "man"], "raw": text, "imgid": number, "sentid": 10 * number + k}
                for k, text in enumerate(CAPTIONS)
            ],
            "cocoid": 57870 + number,
        }
        for number, (split, folder) in enumerate((*places, ("val", "val2014"), ("test", "val2014")))
    ]
    write(root / "coco_captions" / "dataset_coco.json", {"images": images, "dataset": "coco"})
    for image in images:
        photo(root / "coco_captions" / image["filepath"] / image["filename"])


def textcaps(root: Path) -> None:
    for split in ("train", "val"):
        items = [
            {
                "image_id": f"4be9469ede4c64c{k}{split}",
                "image_classes": ["Beer"],
                "image_width": 1024,
                "image_height": 768,
                "image_name": f"4be9469ede4c64c{k}{split}",
                "image_path": f"train/4be9469ede4c64c{k}{split}.jpg",
                "caption_id": 5 * k + place,
                "caption_str": text,
                "reference_strs": list(CAPTIONS),
                "set_name": split,
            }
            for k in range(3)
            for place, text in enumerate(CAPTIONS)
        ]
        head = {"dataset_type": split, "dataset_name": "textcaps", "dataset_version": "0.1"}
        write(root / "textcaps" / f"TextCaps_0.1_{split}.json", head | {"data": items})
        for item in items[::5]:
            photo(root / "textcaps" / "train_images" / f"{item['image_id']}.jpg")


def doclaynet(root: Path) -> None:
    categories = [{"supercategory": name, "id": number, "name": name} for number, name in enumerate(BLOCKS, 1)]
    for number, split in enumerate(("train", "val", "test")):
        names = [f"c6effb847ae7e4a80431696984fa90c98bb08c26648{number}{k}.png" for k in range(3)]
        write(root / "doclaynet" / "COCO" / f"{split}.json", coco_objects(names, categories))
        for name in names:
            photo(root / "doclaynet" / "PNG" / name)


def refcoco(root: Path) -> None:
    numbers = [581857, 581858, 581859]
    content = coco_objects([coco_number("train2014", number) for number in numbers], CATEGORIES)
    refs = [
        {
            "sent_ids": [2 * place, 2 * place + 1],
            "file_name": f"COCO_train2014_{numbers[found['image_id'] - 1]:012d}_{place}.jpg",
            "ann_id": found["id"],
            "ref_id": place,
            "image_id": found["image_id"],
            "split": "train" if found["image_id"] == 1 else "val",
            "sentences": [
                {"tokens": text.lower().split(), "raw": text, "sent_id": 2 * place + k, "sent": text.lower()}
                for k, text in enumerate(("THE LADY ON THE LEFT", "Lady"))
            ],
            "category_id": found["category_id"],
        }
        for place, found in enumerate(content["annotations"])
    ]
    write(root / "refcoco" / "instances.json", content)
    (root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=0))
    for image in content["images"]:
        photo(root / "refcoco" / "images" / image["file_name"])
