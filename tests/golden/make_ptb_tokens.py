"""Makes ptb_tokens.json: captions and their tokens by pycocoevalcap's PTBTokenizer (needs pycocoevalcap and Java).

python tests/golden/make_ptb_tokens.py
"""
# ruff: noqa: RUF001 - quotes and dashes of all kinds

import json
from pathlib import Path

CAPTIONS = """
A man is riding a wave on top of a surfboard.
Two dogs , one brown , play with a frisbee .
A woman's dog can't swim; it's too small!
They're happy, he'll go, I'd stay, we've won, I'm here, you're not.
The dogs' toys and James' ball and the boss's car
He couldn't've known. She shan't. I won't. Ain't it? Isn't that so?
cannot gonna gotta wanna gimme lemme Cannot GONNA
dunno kinda whatcha d'ye more'n
'tis 'twas 'Tis it'twas 'twere
Rock 'n' roll, rock'n'roll, fish 'n chips
'em 'til 'till 'cause they told 'em
in the '90s and '80s, the 1990s, the 1990's, '05, class of '98 reunion, the '95s
o'clock O'Brien's d'Artagnan l'eau c'mon ma'am y'all ol' dunkin' somethin' nothin'
ne'er e'er li'l cap'n s'mores s'more nor'easter Qur'an Shi'ite Hawai'i K'ang jack-o'-lantern
it’s a dog’s life, don’t you think? ‘quoted’ “text” ’90s ’em ’tis c’mon o’clock
don`t don´t don′t donʼt it&apos;s it&#39;s it&APOS;s
"A quoted caption" 'single' ``latex'' `one'
''' "" ”’ »“ «a» ‹b› „c“ ‚d‘
tri-colored dogs in a close-up of black-and-white t-shirts
a 3-year-old's T-shirt, mid-'90s, x-ray, re-use, e-mail, anti-war, pro- and anti- groups
a dog -- two cats --- three — four – five - six ----- seven
self- and -like words a- -b --c
wait... what.. yes.... . . . no . . end…
What?! No!? Really?? Yes!!! a!b c?d
Mr. Smith and Mrs. Jones met Dr. No on Main St. near Fifth Ave. by the Blvd.
Mr.Smith Inc.x co.a co.ab etc.a Ph.D. Ph.D.-C Ed.D. M.Sc. B.A.
the U.S. flag, the U.K., U.S.A. team, D.C. comics, at 5 p.m. or 6 a.m. today
the end etc.
an ill. woman in Ill. and Tex. and Mass. del. Del.
No. 5 and no. 7, fig. 3, pp. 12, art. no, no. The end
vitamin C. The man
gate B. a man
A. Smith and J. R. R. Tolkien and J.R.R. Tolkien
X. Mr. Jones x. <b> y
a pound of sugar, 3 ft. tall, 5 in. wide, 2 oz. of lb. cm. min. max.
word., other.; more.: last.? end.! a-b., 5., A.B.,
This is sentence one.And this is two
5 50% $5 $5.50 £20 €7 5¢ ¥9 US$5 C$5 $1,000,000.00
1,000 1,00 1,,2 ,5 .5 -5 +5 1.5 1.5.2 1:30 12:30:45 5'10" 6' 2"
1/2 1 1/2 3-1/2 ½ 1½ 1 ½ 24/7 9/11 12/25/2010 2010-12-25 1/2/3/4 1\\/2 1⁄2
800-555-1234 (800) 555-1234 (800)555-1234 555-1234 800 555 1234 +44 20 7946 0958 1 800 555-1234
5x5 4x4 3D 2nd 21st 1st. 5pm 5p.m. 5:30pm 5ft 6ft. 30s 30's 10%-20
and/or his/her he/she/it w/o w/ n/a a/b/c/d km/h either/or. //
AT&T R&B B&B a&b A&W's Q&A M&M's A&amp;B &amp; & && A+B C++ C# c# .NET ASP.NET A+
http://www.a.com/b?c=d, https://a.org/x.html. http://localhost:80/ www.site.org/a/b. a.com/xy ab.org ftp://a.b
john@x.com, <john@x.com> a@b @user @1a #tag #1 #a_b #é @@ ## #
:) :-) ;) :( :P :D =) 8) :'( >:( ^_^ -_- (^_^) (--) o.O O'O xD <3 :)) :)a :/
<b>bold</b> <img src="x y"> <br/> <br /> <a b=c> < b > <!-- x --> <3 a<b
&lt;b&gt; &quot;x&quot; &nbsp; &mdash; caf&eacute; &copy; &#8217; &QUOT;
(a man) [two] {three} ((four)) (a.) [sic] (...)
* ** *** a*b ~ ~~ ^ _ __ ___ | || \\ \\* = == + ++ % %% $ $$
café naïve Zürich Straße ÉCOLE Ωmega привет мир 日本語 مرحبا ไทย हिन्दी
é e\u0301 n\u0303 a\u0308b \u0301x
😀 a😀b 👍🏽 ☕ ★ ™ © ® ° °C m² H₂O №5 nº5 ½-mile
a\u00a0b a\u2009b a\u3000b a\u200bb \ta b\t a  b
soft\u00adhyphen 1\u00ad2 a\u2010b a\u2011c
IMG_1234.JPG file.jpg 1.jpg 1a.tar.gz, 5.doc 5.x
MixedCase UPPER lower iPhone McDonald's O'NEIL 'S AB'S ISN'T CAN'T
x y z

.
...
?
"
'
a
I
-
12
@
-LRB- a -RRB- -lsb-x -LXB-
2+2=4 a=b a:b 1:2 a;b a,b
Oct. 31, Jan. 1, Tues. and Wed. at noon on Feb. 29.
two Lts. three Sgts. Lt. Col. Gov. Gen. Rev. Hon. Prof. Pres. Sen. Rep. Capt. Sgt. Pfc. Cpl.
Ave. and Ave and ave. with Assn. Bldg. Bros. Corp. Dept. Ltd. Co. Cos. plc.
the cats, dogs (and birds), are -LRB- here -RRB- .
a sign that says "STOP" ; another says 'GO' .
A sign reads: "Don't walk!"
a man in a suit & tie w/ a hat @ night
1980's-style car, 20's-30's, 5'-11"
the word "can't" isn't "can not" or cannot
he said,"hello"and left
an apple;a pear:a plum
A group of people (some children) are at the zoo...
half-eaten slice of pizza on a plate next to a fork & knife
a 15-20 year old boy; ages 5-7; 1-2-3; 1,2,3
1st-place 2nd-hand 3rd.
No.5 no.5 No .5 no5
person's' people's's 's' 's.
and , . ; : ! ? ' " ` - -- ... done
""".strip("\n").split("\n")


def main() -> None:
    """Writes ptb_tokens.json beside this file."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    words = sorted({word for caption in CAPTIONS for word in caption.split(" ") if not word.isalpha()})
    captions = [*CAPTIONS, *words[::3]]
    # Each is followed by a caption that cannot change how it is cut.
    given = {index: [{"caption": text}] for index, text in enumerate(t for one in captions for t in (one, "zz"))}
    cut = PTBTokenizer().tokenize(given)
    rows = [[caption, cut[2 * index][0].split(" ")] for index, caption in enumerate(captions)]
    lines = ",\n".join(json.dumps([caption, [t for t in tokens if t]], ensure_ascii=True) for caption, tokens in rows)
    (Path(__file__).parent / "ptb_tokens.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
