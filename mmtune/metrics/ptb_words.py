"""Words that the tokenizer of captions treats in a way of their own, all in lower case and parted by spaces.

Found by asking the Java program about every word of up to five letters, and about the words, beginnings and
contractions of two large dictionaries.
"""

LATE = """
al ala apr ariz assn aug bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est etc ext feb fla fri ga inc
ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev nov oct okla penn plc rd rt sep sept seq
sq sr sys tel tenn thu thurs tue tues univ va vt wed wis wisc wyo
"""
"""Abbreviations that keep their dot, as what often ends a sentence."""

LATE_CAPITALISED = "ark az del ill la mass miss ore pa tex wash"
"""The same, but only as "Ark." or "ARK.": "ill." is a word."""

LATE_LOWER = "ppte pptes ppty pptys pte ptes pty ptys"
"""The same, but only as "pte." or "Pte."."""

EARLY = """
adj adm adv alex assoc asst atty attys ave brig capt cf cie cmdr col comdr cpl det dept dr drs elec ens ft gen gov govs
hon insp invt jos lieut lt maj messrs mlle mme mr mrs ms msgr mt natl pfc ph pres prof profs pvt rep reps rev sen sens
sfc sgt spc st ste supt supts treas vs wm
"""
"""Abbreviations that keep their dot, as what stands before something: titles, above all."""

EARLY_LOWER = "mfg mtg"
"""The same, but only as "mfg." or "Mfg."."""

BEFORE_NUMBER = "art ca fig figs no nos op pp prop"
"""Abbreviations that keep their dot before a digit."""

STARTERS = """
a about according additionally after an as at but earlier he her here however if in it last many more now once one
other our she since so some such that the their then there these they this we what when while yet you
"""
"""Words that, capitalised, show that the dot behind a single letter was the end of a sentence."""

FILE_ENDINGS = """
bat bmp c class cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png ppt ps py sql tar
txt wav x xml zip
"""
"""Endings of file names."""

MERGED = {"cannot": 3, "gimme": 3, "gonna": 3, "gotta": 3, "lemme": 3, "wanna": 3}
"""Words that are two tokens, and the length of the first."""
