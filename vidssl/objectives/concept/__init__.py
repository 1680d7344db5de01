"""Self-distillation in a space of concepts."""

from vidssl.objectives.concept.losses import concept_alignment_loss as concept_alignment_loss
from vidssl.objectives.concept.losses import concept_distillation_loss as concept_distillation_loss
from vidssl.objectives.concept.losses import concept_probs as concept_probs
from vidssl.objectives.concept.monitors import concept_warning as concept_warning
from vidssl.objectives.concept.objective import ConceptObjective as ConceptObjective
