"""DeepConf: independent answers, of which the unsure ones are stopped, and a vote by confidence."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="deepconf",
    description=(
        "Samples independent answers. The first 16 set a threshold for the lowest group confidence (over 2048 tokens) "
        "that the best 10% of them reach; later answers below it are stopped. Votes count by confidence, and all stop "
        "at a share of 0.95."
    ),
    source="arXiv:2508.15260",
    caution=(
        "The server's --max-branches bounds the answers, 16 by default: as many as set the threshold, so that none is "
        "stopped, of which a warning says. 256 answers and 10% are the authors' code's; the paper has 90% too. With "
        "10 the vote rests on few answers, and confident wrong ones win. The code has no share at which all stop; 0.95 "
        "is the paper's. Compare with deepconf.placebo."
    ),
    compared=(
        "facebookresearch/deepconf deepconf-online.py and helper.py at 21057edc07, 2026-11-26: 16 of 256 set the bar "
        "at their 90th percentile, window 2048, votes by lowest group confidence; differs: a share of votes at which "
        "all stop is the paper's; confidences are not rounded to three decimals."
    ),
    rules=[
        {
            "do": {
                "sample": {
                    "answers": param("answers"),
                    "warm_up": param("warm_up"),
                    "window": param("window"),
                    "keep_percent": param("keep_percent"),
                    "decided_at": param("decided_at"),
                    "extract": param("extract"),
                }
            }
        }
    ],
    parameters={
        "answers": Number(256, 1, 256, "most answers", whole=True),
        "warm_up": Number(16, 1, 256, "answers that set the threshold", whole=True),
        "window": Number(2048, 1, 2048, "tokens over which confidence is averaged", whole=True),
        "keep_percent": Number(
            10.0, 0.1, 100.0, "share of the first answers that reaches the threshold, in percent; 10 or 90"
        ),
        "decided_at": Number(0.95, 0.01, 1.0, "share of the votes at which the rest is stopped"),
        "extract": Text("last_number", "what the votes are counted by: an extractor"),
    },
)
