"""Self-Attention: one transformer over the tokens of all modalities, what is missing masked out.

The baseline of the AlignedFusion paper (tables 1 and 2): all picture tokens and all report tokens
attend to each other. The paper prints the same six numbers for it and for "AlignedFusion without
intermediate token" (table 4a), so both are one class, `bench.attribute_fusion.AttributeFusion`. The
paper leaves open whether this one reconstructs: it does not by default, preset `rec` turns it on.

Source: Li et al., "AlignedFusion: Handling Missing Information in Reports and Inter-Modality
Information Imbalance", MIDL 2026, under review; no code is public.

Departures:
- The paper gives no widths: depth, heads and MLP are those of AlignedFusion, a learned vector tells
  the modalities apart, the mean token goes through the head of the simple baselines.
- Tokens are projected as in AlignedFusion (Linear, LayerNorm), not as in the other baselines.
- An absent modality is masked out; an attribute missing in a present table is the unknown token.
- Modalities are dropped in training only with `dropout` (preset `dropout`).
"""

# M modalities, D model width, K classes

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from bench.attribute_fusion import AttributeFusion, AttributeFusionConfig
from bench.data import Task
from bench.layers.set_fusion import JointAttention

if TYPE_CHECKING:
    import optuna


class SelfAttentionConfig(AttributeFusionConfig):
    """Settings; those of the reconstruction count only when it is on."""

    reconstruct: bool = False


class SelfAttention(AttributeFusion):
    """Let all tokens attend to each other, average them and classify."""

    name = "self-attention"
    display_name = "Self-Attention"
    config_class = SelfAttentionConfig
    presets: ClassVar = {
        "default": {},
        "dropout": {"dropout": "uniform"},
        "rec": {"reconstruct": True},
    }
    ablations: ClassVar = {"with reconstruction": {"reconstruct": True}}

    def __init__(self, task: Task, config: SelfAttentionConfig):
        M, D, K = task.n_modalities, task.d_model, task.n_classes
        super().__init__(task, config, JointAttention(M, D, K, config.stack))

    @classmethod
    def search_space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Suggest depth, heads, width of the MLP and modality dropout."""
        return {
            "n_layers": trial.suggest_int("n_layers", 1, 4),
            "heads": trial.suggest_categorical("heads", [2, 4, 8]),
            "mlp_ratio": trial.suggest_categorical("mlp_ratio", [2, 4]),
            "dropout": trial.suggest_categorical("dropout", ["none", "uniform"]),
        }


PLUGIN = SelfAttention
