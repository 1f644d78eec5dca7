"""The tests behind every star: which of two methods is better, and whether the data can tell.

What is compared decides the test:

- two methods, each trained several times, on a fixed split: `compare_methods` (Obuchowski and
  Rockette), with `resample_cases` and `two_level_bootstrap` as the check and for intervals;
- two methods over folds: `corrected_resampled_t`;
- seeds alone, without predictions: `signed_rank` or `sign_flip`, from 6 pairs on;
- one trained model against one other: `paired_delong` and `mcnemar`;
- several methods over 6 datasets or more: `friedman` and `critical_difference`.

`attainability` comes before any of them, `adjust` after. Arrays in, frozen results out; a p that
has no meaning is NaN and never a small number.
"""

from bench.statistics.estimates import (
    Estimates,
    PairedDelong,
    delong,
    jackknife,
    mean_estimates,
    paired_delong,
)
from bench.statistics.multiplicity import Attainability, adjust, attainability, smallest_p
from bench.statistics.obuchowski_rockette import (
    ObuchowskiRockette,
    compare_methods,
    obuchowski_rockette,
)
from bench.statistics.paired import (
    McNemar,
    ResampledT,
    SignedRank,
    SignFlip,
    corrected_resampled_t,
    mcnemar,
    probability_of_superiority,
    sign_flip,
    signed_rank,
)
from bench.statistics.ranks import (
    CriticalDifference,
    Friedman,
    PairwiseSignedRank,
    conover,
    critical_difference,
    friedman,
    nemenyi,
    nemenyi_difference,
    pairwise_signed_rank,
)
from bench.statistics.resampling import (
    Bootstrap,
    CaseResamples,
    resample_cases,
    two_level_bootstrap,
)
from bench.statistics.tails import clopper_pearson_upper
from bench.statistics.weighted import (
    WEIGHTED,
    WeightedMetric,
    weighted_accuracy,
    weighted_auc,
    weighted_balanced_accuracy,
    weighted_brier,
    weighted_ece,
    weighted_macro_f1,
    weighted_nll,
)

__all__ = [
    "WEIGHTED",
    "Attainability",
    "Bootstrap",
    "CaseResamples",
    "CriticalDifference",
    "Estimates",
    "Friedman",
    "McNemar",
    "ObuchowskiRockette",
    "PairedDelong",
    "PairwiseSignedRank",
    "ResampledT",
    "SignFlip",
    "SignedRank",
    "WeightedMetric",
    "adjust",
    "attainability",
    "clopper_pearson_upper",
    "compare_methods",
    "conover",
    "corrected_resampled_t",
    "critical_difference",
    "delong",
    "friedman",
    "jackknife",
    "mcnemar",
    "mean_estimates",
    "nemenyi",
    "nemenyi_difference",
    "obuchowski_rockette",
    "paired_delong",
    "pairwise_signed_rank",
    "probability_of_superiority",
    "resample_cases",
    "sign_flip",
    "signed_rank",
    "smallest_p",
    "two_level_bootstrap",
    "weighted_accuracy",
    "weighted_auc",
    "weighted_balanced_accuracy",
    "weighted_brier",
    "weighted_ece",
    "weighted_macro_f1",
    "weighted_nll",
]
