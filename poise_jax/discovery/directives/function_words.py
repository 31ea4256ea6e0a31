"""Verbs, comparisons, numbers, units, negations and fillers of directives."""

from collections.abc import Iterator

from poise_jax.discovery.directives import bans as bans_lib
from poise_jax.discovery.directives import lexicon

_K = lexicon.Kind
_Unit = lexicon.Unit

# Regular verbs; the value of a change is (sign, whether it compares a noun).
_VERBS = {
    (_K.CHANGE, 1): (
        "maximise|raise|increase|boost|lift|push up|bring up|drive up|enlarge"
        "|extend|elevate|turn up|step up|climb|heighten|ramp up"
        "|crank up|encourage|promote|foster|favour|favor"
    ),
    (_K.CHANGE, -1): (
        "minimise|lower|reduce|decrease|drop|trim|bring down|push down|shrink"
        "|drive down|diminish|lessen|slash|curb|decline|curtail|turn down"
        "|cut down|cut back|scale down|dial down|tone down|discourage"
    ),
    (_K.IMPROVE, None): (
        "improve|enhance|optimise|ameliorate|strengthen|advance"
    ),
    (_K.HARM, "down"): "sacrifice|regress|forfeit|trade",
    (_K.HARM, "bad"): (
        "harm|damage|degrade|worsen|compromise|impair|suffer|deteriorate"
        "|impact|affect|touch|penalise|ruin|weaken|undermine|erode|break down|wreck"
    ),
    (_K.HOLD, None): (
        "maintain|preserve|retain|protect|sustain|conserve|stay|remain|guard"
        "|safeguard|respect"
    ),
    (_K.COLLAPSE, None): "collapse|plummet|vanish|crash|tank|implode",
    (_K.EXPLODE, None): "explode|balloon|skyrocket|diverge|spike",
    (_K.USE, None): (
        "use|employ|apply|add|include|introduce|utilise|rely on|resort to"
        "|involve|work with|adopt|contain"
    ),
    (_K.NOT, None): (
        "avoid|prevent|forbid|ban|exclude|prohibit|disallow|skip|refrain from"
        "|abstain from|stop|omit|eschew|rule out|eliminate|remove"
    ),
}
# Verbs that name what they change, as a quality would.
_OWN = {
    ("length", -1): "shorten|condense",
    ("length", 1): "lengthen",
    ("speed", 1): "speed up|accelerate|hasten",
    ("speed", -1): "slow|slow down",
    ("simplicity", 1): "simplify|streamline",
    ("simplicity", -1): "complicate",
    ("stability", 1): "stabilise",
    ("stability", -1): "destabilise",
    ("diversity", 1): "diversify|explore",
    ("retention", -1): "forget|unlearn",
}
_WORDS = {
    (_K.CHANGE, 1): (
        "rise|rises|rising|rose|grow|grows|growing|grew|go up|goes up|going up"
        "|gain|gains|gaining|increases in|growth|growth in|growth of|went up"
        "|increase in|an increase in|increase of|rise in|maximum|maximal|up"
        "|get up|be up|gain in|gains in|improvement of"
    ),
    (_K.CHANGE, -1): (
        "fall|falls|falling|fell|cut|cuts|cutting|go down|goes down|went down"
        "|going down|reduction|reduction in|reduction of|decrease in|drop in"
        "|a drop in|drop of|fall in|decline in|minimum|minimal|down|minimise"
        "|dip|dips|sink|sinks|sinking|shed|reductions in"
        "|decrease of|drops in|get down|slip|slips|slipping|shrinks|shrunk"
    ),
    (_K.CHANGE, "more"): "more|higher|greater|larger amount of|most|highest",
    (_K.CHANGE, "less"): "less|lower|fewer|reduced|lowest|least|fewest",
    (_K.CHANGE, "high"): "high|as high as possible|plenty of|lots of",
    (_K.CHANGE, "low"): "low|little|as low as possible|few",
    (_K.IMPROVE, None): (
        "best|better|improvement in|improvements in|gains on|improvement on|do well"
        "|doing well|good|strong|stronger|great|well|optimal|improvement"
        "|improvements on|get better|good at|better at|get better at"
    ),
    (_K.HARM, "down"): (
        "lose|loses|losing|loss of|loss in|losses in|losses of|lost|a loss of"
        "|give up|giving up|trade away|trading away|giving away"
        "|regression in|regressions in|regression on|regressions on|loss"
        "|drop off in|regression of|regressions|regression|trading off"
        "|trade off|loosing|dropping off|letting go of|losses|lossy"
    ),
    (_K.HARM, "bad"): (
        "hurt|hurts|hurting|worse|worst|at the cost of|at the expense of"
        "|cost of|expense of|at cost of|get worse|gets worse|getting worse"
        "|poorer|degradation|degradation in|degradation of|at expense of"
        "|costing|costs us|cost in|cost to|costs in|paying in|paying with|penalty in|penalty on|deterioration|bad|at a cost in"
        "|deterioration in|deterioration of|damage to|harm to|become worse"
        "|becoming worse|at a cost to|to the detriment of|detriment of|poor"
    ),
    (_K.HOLD, None): (
        "keep|keeps|keeping|kept|hold|holds|holding|held|intact|in check"
        "|under control|bounded|at bay|maintenance of|on par|in place"
        "|at least maintain|maintain or improve|preserve or improve|no worse"
        "|keep or improve|hold or improve|not worse|stay put|limited|firm"
        "|just as good|as good as before|contained|no lower|as good"
        "|within bounds|in bounds|within reason|no change for the worse in"
        "|maintain or raise|keep or raise|hold or raise|retain or improve"
        "|maintain or increase|hold on to|holding on to|keep up|up to par"
    ),
    (_K.STEADY, None): (
        "the same or better|the same or higher|same or better|same or higher|same or lower|same|unchanged|constant|steady|equal|untouched|as it is|as they are"
        "|where it is|where they are|identical|the same|unaffected|flat"
        "|similar|comparable|roughly constant|about the same|as is|change"
        "|matching|match|changing|changes in|change in|altering|unaltered"
        ""
    ),
    (_K.COLLAPSE, None): "collapse of|collapse in",
    (_K.EXPLODE, None): (
        "blow up|blows up|blowing up|run away|running away|runaway|get out of"
        " hand|get out of control|run wild|explosion|explosion of|explosions"
    ),
    (_K.COMPARE, "<="): (
        "at most|no more than|not more than|up to|<|<=|max|maximum of|maximally"
        "|not exceeding|no greater than|capped at|cap|caps|cap at|at or below"
        "|a maximum of|at the most|no higher than|a max of|not above|not over"
        "|no larger than|upper limit of|upper limit|ceiling of|limit of|max of"
        "|not to exceed|no bigger than|bounded by|limited to|limit|limits"
        "|restrict|without exceeding|never exceeding"
        "|for at most|or less|or fewer|or below|or lower|or under"
        "|or shorter|or faster|tops|restricted to|never more than|never over"
        "|never above|smaller than|for up to|or quicker|limiting|capping"
    ),
    (_K.COMPARE, "<"): "under|below|beneath|underneath",
    (_K.COMPARE, ">="): (
        "at least|no less than|not less than|no fewer than|>|>=|min|minimum of"
        "|a minimum of|at the least|no lower than|not below|not under|or more"
        "|or better|or above|or higher|floor of|a floor of|at or above"
        "|never less than|never below|never under|lower limit of|reach"
        "|reaches|reaching|achieve|achieving|hit|no smaller than|never lower"
        " than|or greater|or over|a minimum|not lower than|achieves|attain"
    ),
    (_K.COMPARE, ">"): "above|over|exceed|exceeds|exceeding|beyond|surpass",
    (_K.WITHIN, None): "within|to within|inside of",
    (_K.BY, None): "by|by about|by around|by roughly|by approximately",
    (_K.TO, None): "to|onto|towards|into",
    (_K.THAN, None): "than|as|compared to|relative to|compared with|vs|versus",
    (_K.ROOT, None): (
        "root|baseline|baseline's|grpo|now|before|today|currently|current"
        "|current level|current value|original|initial|starting point|root s"
        "|baselines|currently is|present|the start|start|default|that of grpo"
        "|the root has|it is now|base line|vanilla grpo|plain grpo|root has"
        "|current one|reference algorithm|root algorithm|baseline algorithm"
    ),
    (_K.STRICT, None): (
        "strictly|at all|absolutely|even slightly|even a little"
        "|whatsoever|in the slightest|zero tolerance|even a bit|exactly"
        "|under any circumstances|one bit|in any way"
    ),
    (_K.TOO, None): "too|overly|excessively|unnecessarily|needlessly",
    (_K.MAY, None): (
        "may|can|could|might|allowed|allow|tolerate|accept|acceptable|fine"
        "|ok|okay|permit|permitted|tolerable|willing to|allowing|accepting"
        "|tolerating|permitting|happy to|tolerance of|tolerance|permissible"
    ),
    (_K.FREE, None): (
        "don't care about|do not care about|doesn't matter|does not matter"
        "|ignore|regardless of|no matter|irrelevant|do not matter|don't matter"
        "|don't mind|do not mind|never mind|irrespective of|unimportant|ignoring"
        "|is not important|are not important|not important|no concern"
        "|is of no concern|disregard|whatever|don't worry about"
    ),
    (_K.NOT, None): (
        "not|no|never|none|neither|nor|w / o|w / out|don't|doesn't|do not|does not|without"
        "|mustn't|must not|shouldn't|should not|cannot|can not|can't|won't"
        "|didn't|isn't|aren't|never ever|unless|forbidden|prohibited|banned"
        "|disallowed|not allowed|is not allowed|are not allowed|off limits"
        "|off the table|may not|free of|stay away from|steer clear of"
        "|stay clear of|keep away from|leave out|leaving out|keep out"
        "|not permitted|zero|rather not"
        "|get rid of|do away with|lay off|could not|would not|wouldn't|taboo"
        "|under no circumstances|on no account|keep clear of|hate|wasn't"
        "|not acceptable|unacceptable|lest|no use of|dislike"
        ""
    ),
    (_K.WEIGHT, 2.0): (
        "mainly|mostly|primarily|above all|most importantly|chiefly|first of"
        " all|prioritise|prioritize|first and foremost|main goal|top priority"
        "|priority|especially|in particular|foremost|prioritising|mostly about"
        "|prioritizing|principally|largely|main priority|primary goal|strongly"
        "|main aim|main objective|most important|main thing|strong emphasis on"
        "|most of all|predominantly|key|crucial|crucially|most important"
        " thing|much|emphasise|emphasize|emphasis on|primary objective"
        "|predominately|matters most|matter most|heavily|first"
    ),
    (_K.WEIGHT, 0.5): (
        "a little|slightly|a bit|somewhat|secondarily|a bit of|a little bit"
        "|a touch|to a lesser extent|to a lesser degree|ideally|if possible"
        "|nice to have|marginally|a tad|secondary goal|secondary|as a secondary"
        " goal|where possible|when possible|preferably|as a bonus|second"
        "|less importantly|with lower priority|a small|modestly|mildly"
        "|second priority|lower priority|as a tie breaker|as a tiebreaker"
    ),
    (_K.WEIGH, None): "weight|weights|weighted|with weight|weight of|weighing",
    (_K.IMPORTANT, 2.0): (
        "twice as important as|twice as much as|is twice as important as|matters twice as much"
        " as|counts twice as much as|counts double|twice as important|more important than|matters more than|counts more than|before the"
        "|ahead of|double the weight of|twice the weight of|matter more than"
        "|takes precedence over|comes before|counts for twice as much as"
        "|rather than|counts twice|being twice as important|double weight"
        "|twice the weight|matters twice as much|counts twice as much"
        "|more important|weighs twice as much as|weighs twice as much"
        "|is worth twice as much as|worth twice as much as|instead of"
        "|counting twice|counting double|counting twice as much|weighted double"
        "|twice as much weight|weighted twice as much as|double weight over"
    ),
    (_K.IMPORTANT, 3.0): (
        "three times as important as|three times as much as|three times as important|matters three"
        " times as much as|counts three times as much as|much more important"
        " than|three times more important than|counts triple|far more"
        " important than|three times the weight of|matters much more than"
    ),
    (_K.IMPORTANT, 0.5): (
        "half as important as|half as important|less important than|less"
        " important|matters less than|counts half|matters half as much as"
        "|counts half as much as|counts half as much|at half weight|half weight"
        "|half the weight of|half the weight|with half the weight|matters less"
    ),
    (_K.IMPORTANT, 1.0): (
        "as important as|just as important as|equally important|equally"
        " important as|matters as much as|counts as much as|equally|as much as"
        "|in equal parts|equal weight|with equal weight|equal weights"
        "|with equal weights|equal importance"
    ),
    (_K.BREAK, None): (
        "but|w /|s . t .|while|with|yet|whilst|although|though|however"
        "|subject to|such that|so that|whereas|except that|at the same time"
        "|that are|which are|that is|which is"
        "|in exchange for|having|under the constraint that|but also"
        "|because|therefore|hence"
        "|constrained by|constrained to|making sure that|ensuring"
        "|ensuring that|making sure|and yet|who are|subject to the"
        " constraint that|being careful|taking care|that have|that has"
        "|then again|in return for|alongside|along with|together with"
    ),
    (_K.IF, None): (
        "if|only if|as long as|so long as|provided|provided that|where|when"
        "|given that|given|providing|providing that|on condition that"
        "|on the condition that|under the condition that|only when"
    ),
    (_K.BREAK, "may"): "even if|even though|even when",
    (_K.AND, None): (
        "and|,|plus|&|as well as|also|and also|then|and then|additionally"
        "|in addition|moreover|furthermore|+|besides|and / or|/ and|both"
        "|and to|next"
    ),
    (_K.OR, None): "or|and nor|or even|let alone|or to",
    (_K.STOP, None): ".|;|!|?|\n",
    (_K.FILLER, None): (
        "a|an|of|in|on|bring|brings|bringing|drive|drives|push|pushes|for|so|is|are|be|been|being|should|shall|must|has|have|had"
        "|will|would|please|i|we|you|want|wants|need|needs|like|us|me|my|our"
        "|your|it|its|they|them|their|this|that|these|those|try|make|makes"
        "|making|sure|get|gets|getting|become|becomes|ensure|let|lets|do|does"
        "|very|really|quite|just|all|each|every|any|some|here|there|average"
        "|mean|value|values|level|levels|amount|rate|number|which|who|one|the"
        "|kindly|per|avg|can you|could you|can we|could we|may i|go|goes|going|count|counts|yourself|gives|put|weigh|consider|treat|from|out|aim|aims|aim for|aiming|go for|target|targets"
        "|goal|goals|focus|focus on|focusing on|care about|care for|prefer"
        "|prefers|preferring|preferably use|find|find me|search for|look for|looking for"
        "|give|give me|produce|write|writes|written|generate|take|takes|took"
        "|taking|hey|hello|hi|thanks|thank|to be|to get|to have|to make|to see"
        "|i'd|we'd|i'm|we're|it's|let's|to stay|want to|need to|try to|trying"
        " to|us to|you to|to become|still|even|further|again"
        "|us|through|around|about|roughly|approximately|approx|significantly"
        "|considerably|substantially|drastically|dramatically|always|well as"
        "|/|:|'|\"|so as to|in order to|in terms of|terms|when it comes to"
        "|=|==|thing|things|something|algorithms that|one that|end up|ending"
        " up|anything|any of|any more|anymore|further than|that it|seek|possible"
        "|in general|in total|generally|total|in the process|set"
        "|final|across|whole|way|do so|doing so|at|am|was|were|discover"
        "|as possible|as well|if you can|attention to|pay attention to|too much of"
        "|do not forget to|don't forget to|remember to|interested in|would like|i would like|would be|would like to|we'd"
        " like to|i'd like to|i'd like|want it to|nice to see|willing|too much"
        "|with respect to|regarding|concerning|try hard|work hard|try hard to"
        "|desired|important|matters|matter|cost us|come"
        "|comes|by all means|continue|reasonably|sufficiently|enough|in return"
        "|actually|simply put|in short|basically|score of|costs"
        "|spend|spends|spending|finish|complete|done|terminate|last|lasts|run"
        " for|run the|stop after|pay|evaluate|cost|worth|more of|must be|should"
        " be|needs to|has to|have to|ought to|ought|supposed to|only|merely|see"
    ),
}
_MULTIPLES = {
    0.5: "half|half the|half of|half of the|half as|half its|halve|halves|halving|halved",
    2.0: "double|doubles|doubling|doubled|twice|double the|two times|2 x|2 times|twice the|twice as",
    3.0: "triple|triples|tripling|tripled|thrice|triple the|three times|3 times|3 x",
    4.0: "four times|4 times|4 x|quadruple the",
}
_FRACTIONS = {
    1 / 2: "half|a half|one half",
    1 / 3: "a third|one third",
    2 / 3: "two thirds",
    1 / 4: "a quarter|one quarter|a fourth",
    3 / 4: "three quarters|three fourths",
    1 / 5: "a fifth|one fifth",
    1 / 10: "a tenth|one tenth",
}
UNITS = {
    _Unit("seconds"): "s|sec|secs|second|seconds",
    _Unit("seconds", 60.0): "min|mins|minute|minutes",
    _Unit("seconds", 3600.0): "h|hr|hrs|hour|hours",
    _Unit("seconds", 86400.0): "d|day|days",
    _Unit("seconds", 1e-3): "ms|millisecond|milliseconds",
    _Unit("tokens"): "tokens|token|tok|toks",
    _Unit("nats"): "nat|nats",
    _Unit("bits"): "bit|bits",
    _Unit("bits", 8.0): "byte|bytes",
    _Unit("operations"): "operations|ops|operation",
    _Unit("flops"): "flops|flop|floating point operations",
    _Unit("flops", 1e9): "gflops|gigaflops|gflop",
    _Unit("flops", 1e12): "tflops|teraflops|tflop",
    _Unit("%"): "%|percent|per cent|pct",
    _Unit("points"): (
        "point|points|percentage points|percentage point|pp|pts|pt"
    ),
    _Unit("candidates"): (
        "candidate|candidates|proposals|algorithms|candidate algorithms"
    ),
    _Unit("dollars"): "$|dollar|dollars|usd|bucks|us dollars",
    _Unit("dollars", 0.01): "cent|cents",
    _Unit("x"): "x|\u00d7",
}
SCALES = {
    "k": 1e3,
    "m": 1e6,
    "thousand": 1e3,
    "million": 1e6,
    "billion": 1e9,
    "bn": 1e9,
}


def phrases() -> Iterator[tuple[str, lexicon.Lexeme]]:
  """Phrases of grammar, and those of mechanisms, with what they say."""
  yield from _acting()
  for phrase, bans in bans_lib.phrases().items():
    yield phrase, lexicon.Lexeme(_K.MECHANISM, bans)
  for factor, words in _MULTIPLES.items():
    for phrase in words.split("|"):
      yield phrase, lexicon.Lexeme(_K.TIMES, factor)
  for part, words in _FRACTIONS.items():
    quantity = lexicon.Quantity(100 * part, lexicon.Unit("%"))
    for phrase in words.split("|"):
      yield phrase, lexicon.Lexeme(_K.NUMBER, quantity)


def _acting() -> Iterator[tuple[str, lexicon.Lexeme]]:
  """Single phrases first: they are more exact than the forms of verbs."""
  for (kind, value), words in _WORDS.items():
    for phrase in words.split("|"):
      yield phrase, lexicon.Lexeme(kind, value)
  for (kind, value), words in _VERBS.items():
    for phrase in lexicon.verbs(words):
      yield phrase, lexicon.Lexeme(kind, value)
  for (name, sign), words in _OWN.items():
    quality = lexicon.Quality(name, sign, True)
    for phrase in lexicon.verbs(words):
      yield phrase, lexicon.Lexeme(_K.QUALITY, quality)
