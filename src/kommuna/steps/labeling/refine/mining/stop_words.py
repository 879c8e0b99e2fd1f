"""English and Russian stop words, which are no keywords by themselves, and detection of the language of texts.

The lists contain the closed word classes of each language (articles, pronouns, prepositions, conjunctions, particles,
auxiliary and modal verbs, question words, pronominal adverbs). Words of open classes are not included, since a noun, an
adjective or a full verb may indicate a tag. Words are in normal form (`fold`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from kommuna.steps.labeling.rules.text.tokens import keyword_line

Stemmed = Literal["english", "russian"]

_LEAST_SHARE = (
    0.15  # the smallest share of stop words of the texts' language; measured: .22 in Russian tweets, .55 in questions
)
_LEAST_TIMES = 5  # the smallest ratio of stop words of the language to those of the other

_ENGLISH = """
a an the
i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers herself
it its itself they them their theirs themselves this that these those one ones who whom whose which what
someone somebody something anyone anybody anything everyone everybody everything nobody nothing none
some any each every either neither both all such other another same own
about above across after against along among around as at before behind below beneath beside between beyond by down
during for from in inside into like near of off on onto out outside over per since through till to toward towards under
until up upon via with within without
and but or nor so yet if because although though while unless than whether then
be am is are was were been being have has had having do does did doing done will would shall should can could may might
must ought need
isn't aren't wasn't weren't haven't hasn't hadn't don't doesn't didn't won't wouldn't shan't shouldn't can't cannot
couldn't mightn't mustn't needn't ain't cant dont doesnt didnt isnt wont
i'm i've i'd i'll im ive you're you've you'd you'll he's he'd he'll she's she'd she'll it's it'd it'll we're we've we'd
we'll they're they've they'd they'll that's there's here's what's who's where's when's why's how's let's whats hows
how why when where here there now
no not never only also too very just even still again already ever always once quite rather yes please
"""

_RUSSIAN = """
я меня мне мной мною мы нас нам нами ты тебя тебе тобой тобою вы вас вам вами он его него ему нему им ним нем она ее нее
ей ней ею нею оно они их них ими ними себя себе собой собою
мой моя мое мои моего моей моему моим моем моих моими мою твой твоя твое твои твоего твоей твоему твоим твоем твоих
твоими твою наш наша наше наши нашего нашей нашему нашим нашем наших нашими нашу ваш ваша ваше ваши вашего вашей вашему
вашим вашем ваших вашими вашу свой своя свое свои своего своей своему своим своем своих своими свою
этот эта это эти этого этой этому этим этом этих этими эту тот та то те того той тому тем том тех теми ту такой такая
такое такие такого такому таким таком таких такими такую сам сама само сами самого самой самому самим самом самих самими
весь вся все всего всей всему всем всех всеми всю кто кого кому кем ком что чего чему чем чей чья чье чьи какой какая
какое какие какого какому каким каком каких какими какую который которая которое которые которого которой которому
которым котором которых которыми которую каждый каждая каждое каждые каждого каждой никто никого ничего ничто кто-то
что-то нибудь либо другой другая другое другие других иной
в во на с со к ко о об обо от до из изо у за под подо над по при про для без через между перед передо около после среди
вместо кроме ради сквозь против из-за из-под
и а но да или либо ни не ни нет чтобы чтоб если хотя когда пока как так тоже также потому поэтому оттого зато однако
будто словно раз ибо то есть
бы б ли ль же ж ведь вот вон уж уже даже лишь только именно разве неужели пусть пускай ну еще
быть был была было были буду будет будешь будем будете будут есть мочь могу может можем можете могут мог могла могло
могли можно нельзя надо нужно
где куда откуда зачем почему отчего сколько столько тут там здесь туда сюда оттуда отсюда тогда теперь сейчас потом
всегда никогда иногда очень более менее больше меньше совсем почти опять снова
"""

WORDS: dict[Stemmed, frozenset[str]] = {
    "english": frozenset(_ENGLISH.split()),
    "russian": frozenset(part for word in _RUSSIAN.split() for part in keyword_line(word).split()),
}
STOP_WORDS = WORDS["english"] | WORDS["russian"]


def only_stop_words(phrase: str) -> bool:
    """Returns whether all words of a phrase are stop words.

    >>> only_stop_words("have to"), only_stop_words("have to pay")
    (True, False)
    """
    return all(word in STOP_WORDS for word in phrase.split())


def language_of(phrases: Iterable[str]) -> Stemmed | None:
    """Returns the language of words by the stop words among them; None if it is not clear.

    >>> language_of("how can i top up my card".split()), language_of("как мне пополнить карту".split())
    ('english', 'russian')
    >>> print(language_of("jemand hat mir die karte gestohlen und in polen benutzt".split()))
    None
    """
    words = list(phrases)
    counts = {language: sum(word in known for word in words) for language, known in WORDS.items()}
    first, second = sorted(counts, key=lambda language: -counts[language])
    clear = counts[first] >= max(_LEAST_SHARE * len(words), _LEAST_TIMES * counts[second], 1)
    return first if clear else None
