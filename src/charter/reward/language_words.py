"""Which scripts and function words tell a language: the data of `language`.

Function words are the short, frequent words no text of some length does without. A word that several of the languages
here share counts for each of them and so decides nothing between them.
"""

from __future__ import annotations

from collections.abc import Mapping

SCRIPTS: Mapping[str, tuple[tuple[int, int], ...]] = {
    "latin": ((0x41, 0x5A), (0x61, 0x7A), (0xAA, 0xAA), (0xBA, 0xBA), (0xC0, 0x24F), (0x1E00, 0x1EFF)),
    "greek": ((0x370, 0x3FF), (0x1F00, 0x1FFF)),
    "cyrillic": ((0x400, 0x52F), (0x1C80, 0x1C8F)),
    "hebrew": ((0x590, 0x5FF),),
    "arabic": ((0x600, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFC)),
    "devanagari": ((0x900, 0x97F),),
    "bengali": ((0x980, 0x9FF),),
    "tamil": ((0xB80, 0xBFF),),
    "thai": ((0xE00, 0xE7F),),
    "kana": ((0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F)),
    "hangul": ((0x1100, 0x11FF), (0x3131, 0x318E), (0xAC00, 0xD7A3)),
    "han": ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)),
}
"""Script → ranges of code points, both ends included."""

LANGUAGES: Mapping[str, tuple[str, ...]] = {
    "en": ("latin",),
    "de": ("latin",),
    "fr": ("latin",),
    "es": ("latin",),
    "it": ("latin",),
    "pt": ("latin",),
    "nl": ("latin",),
    "sv": ("latin",),
    "pl": ("latin",),
    "tr": ("latin",),
    "vi": ("latin",),
    "id": ("latin",),
    "ru": ("cyrillic",),
    "uk": ("cyrillic",),
    "el": ("greek",),
    "he": ("hebrew",),
    "ar": ("arabic",),
    "fa": ("arabic",),
    "hi": ("devanagari",),
    "bn": ("bengali",),
    "ta": ("tamil",),
    "th": ("thai",),
    "ko": ("hangul",),
    "ja": ("kana", "han"),
    "zh": ("han",),
}
"""Language (ISO 639-1) → the scripts it is written in. Others in the same script are not told apart from these."""

_WORDS: Mapping[str, str] = {
    "en": """the of and to is that it was for on are as with his they at be this from have or by had not but what
        were when we there can an which their if will each about how up out then them these so some would has more
        than been who its now did you your she he her my our because does into therefore so""",
    "de": """der die das und ist nicht ein eine einen einem einer zu den dem des mit sich auf für von im auch es an
        als werden wird aus er hat dass sie nach bei um noch wie über so zum war haben nur oder aber vor zur bis
        mehr durch man sind dann wir ich du ihr wenn also weil kann""",
    "fr": """le la les de des du et est un une que qui dans en pour pas sur au aux ce cette ces il elle nous vous
        ils elles ne se sont avec par plus mais ou où son sa ses leur on été être avoir comme donc car si très
        tout fait c'est d'un d'une qu'il l'on n'est""",
    "es": """el la los las de del y que en un una es no se por con para su al lo como más pero sus le ya o este
        sí porque esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos durante son está
        entonces ser fue si qué""",
    "it": """il lo la gli le di del della dei delle che e è un una in per non con si da sono come più ma anche al
        alla nel nella dal dalla questo questa ha ho se quando quindi perché essere cui ci così tra molto loro
        allora i""",
    "pt": """o a os as de do da dos das e que em um uma é não se por com para no na nos nas ao aos mais como mas
        foi ele ela são também já ou ser está quando muito há seu sua pelo pela até isso esse esta entre então
        porque você""",
    "nl": """de het een en van is dat in niet te zijn op met voor aan er om dan maar ook als bij nog uit naar door
        wordt worden hebben heeft deze die dit of was ik je we ze hij zij wij kan geen meer over dus omdat""",
    "sv": """och att det som en ett är på av för med den till inte om har de så men ett kan han hon jag vi du var
        från eller när nu ska skulle vid också efter där detta dessa sig sin då eftersom""",
    "pl": """i w z na się nie że do to jest jak za od o po ale co tak przez dla być był była było są który która
        które oraz tym tego czy już tylko ich jego jej gdy więc może jako ponieważ""",
    "tr": """ve bir bu da de için ile olarak çok daha olan gibi en ne ama kadar sonra var yok ben sen biz siz onlar
        değil her ki mi mı mu mü olduğu şu şey çünkü veya ise göre""",
    "vi": """và của là có các một những được cho không người trong với này đã khi từ để đó ra như vì nhưng tôi cũng
        về sẽ nếu thì ở đến hay hoặc phải bởi do nên""",
    "id": """yang dan di ini itu dengan untuk dari tidak dalam akan pada juga saya ke karena ada oleh sudah atau
        kita bisa adalah sebagai mereka telah kami saat dia seperti maka jika anda lebih""",
    "ru": """и в не на что с по как это к у из за от о так же для но бы все он она они мы вы его её их то если
        был была было были или уже при только ещё чтобы когда есть поэтому потому""",
    "uk": """і й в у не на що з та як це до за від про так же для але би все він вона вони ми ви його її їх то якщо
        був була було були або вже при тільки ще щоб коли є тому""",
    "ar": """في من على إلى أن هذا هذه التي الذي لا ما كان مع عن هو هي أو ثم كل بين قد لم إن كما ذلك بعد حتى لأن""",
    "fa": """و در به از که این را با است برای آن یک تا هم می بر های شود شد خود کرد ها اما یا نیز اگر هر بود چون""",
}

FUNCTION_WORDS: Mapping[str, frozenset[str]] = {code: frozenset(words.split()) for code, words in _WORDS.items()}
"""Language → function words, lower case. Languages that own their script here have none."""

EXCLUSIVE: Mapping[str, str] = {"uk": "іїєґ", "ru": "ыэёъ", "fa": "پچژگکی", "ar": "ةكىيأإ"}
"""Letters that one of two languages in a script has and the other has not; each counts as a function word."""
