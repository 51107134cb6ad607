"""What tasks that answer in plain text have in common: reading answers, their lengths, pictures of them."""

import abc
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from mmtune.codecs.plain_text import is_encodable
from mmtune.records import Output, Prediction, Query, Record
from mmtune.task import Task

if TYPE_CHECKING:
    from PIL import Image

    from mmtune.models.tokenizer import Tokenizer

# What bytes that are no UTF-8 become, and tokens that mean a place or a mask.
_NO_TEXT = re.compile("\ufffd|<loc[0-9]{4}>|<seg[0-9]{3}>")


class TextTask(Task):
    """A task whose answer is a text.

    Class attributes:
        unknown_length: Tokens of an answer that nobody knows.
    """

    unknown_length: ClassVar[int] = 64

    @abc.abstractmethod
    def taught(self, record: Record) -> Sequence[str]:
        """Returns the right answers to a record, as they are taught; none where they are not known."""

    def right_texts(self, record: Record) -> Sequence[str]:
        """Returns the right answers as they are taught."""
        return self.taught(record)

    @abc.abstractmethod
    def read(self, text: str) -> str:
        """Returns an answer of the model as it counts: white space, Unicode's forms."""

    def is_valid(self, query: Query, text: str) -> bool:
        """Returns whether a text can be an answer: broken characters, and tokens that are no text, make it invalid."""
        del query
        return _NO_TEXT.search(text) is None

    def parse(self, record: Record, answers: Sequence[tuple[Query, Output]]) -> Prediction:
        """Takes the text as `read` returns it."""
        texts = [self.read(output.text) for _, output in answers]
        valid = [self.is_valid(query, text) for (query, _), text in zip(answers, texts, strict=True)]
        return Prediction(
            record.id,
            prompt="\n".join(query.prompt for query, _ in answers),
            text="\n".join(texts),
            tokens=tuple(pair for _, output in answers for pair in zip(output.tokens, output.logprobs, strict=False)),
            invalid=valid.count(False),
        )

    def max_tokens(self, records: Sequence[Record], tokenizer: "Tokenizer") -> int:
        """Returns the length of the longest right answer, end included, rounded up to 16.

        Where the answers to a record are not known that is at least `unknown_length`.
        """
        answers = [self.taught(record) for record in records]
        least = 0 if all(answers) and answers else self.unknown_length
        longest = longest_text({text for texts in answers for text in texts}, tokenizer)
        return 16 * math.ceil(max(least, longest) / 16)

    def target_bound(self, record: Record, query: Query, tokenizer: "Tokenizer") -> int:
        """Returns the length of the longest right answer, end included."""
        del query
        return longest_text(self.taught(record), tokenizer)

    def draw(self, image: "Image.Image", prediction: Prediction) -> "Image.Image":
        """Returns the picture with the text beneath."""
        from mmtune.reports.captioned import draw_text

        return draw_text(image, prediction.text.split("\n"))


def longest_text(texts: Sequence[str] | set[str], tokenizer: "Tokenizer") -> int:
    """Returns the tokens of the longest text and the end behind it; of texts that cannot be written none counts."""
    return 1 + max((len(tokenizer.encode(text)) for text in filter(is_encodable, texts)), default=0)
