"""`vidssl classify`: which of some actions one video shows."""

from __future__ import annotations

from pathlib import Path

from vidssl.data.manifest.content import content_hash
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError
from vidssl.evaluation.classes import class_list, read_classes, resolve_templates, templates_record
from vidssl.evaluation.features import extract_features
from vidssl.evaluation.report import Result, result_header
from vidssl.evaluation.results.protocol import sealed
from vidssl.evaluation.setup import EvalOptions, load_subject
from vidssl.evaluation.texts.classifier import class_prompts, cut_texts, text_classifier
from vidssl.evaluation.zero_shot import zero_shot_scores


def classify(
    checkpoint: str | Path,
    video: str | Path,
    labels: str,
    *,
    templates: str | None = None,
    options: EvalOptions | None = None,
) -> Result:
    """Which of some actions one video shows.

    Args:
        labels: class names separated by commas, or a class list file.

    Returns:
        JSON-able result; ``probabilities`` maps names to numbers that sum to 1, most likely first. Of an encoder trained with
        a sigmoid for each pair (SigLIP), ``matches`` has the probability that each name by itself fits, which can be low for all.

    Raises:
        VidsslError: when the video cannot be decoded, or its features are not finite (named with the reason).
    """
    subject = load_subject(checkpoint, options)
    if Path(labels).is_file():
        listed = read_classes(Path(labels))
    else:
        listed = class_list([name.strip() for name in labels.split(",") if name.strip()], "labels")
    chosen = resolve_templates(templates, listed)
    cut = cut_texts(subject.encoder, class_prompts(listed, chosen))
    features = extract_features(subject, VideoIndex.of_files([video]), description="classify")
    if features.failures:
        raise VidsslError(f"{video}: {features.failures[0].reason}")
    classifier = text_classifier(subject.encoder, listed, chosen).cpu()
    cosines = zero_shot_scores(features.features["trained/unit"], classifier)[0]
    assert subject.encoder.text is not None, "text_classifier needs it"
    order = cosines.argsort(descending=True)
    probabilities = (cosines / subject.encoder.text.temperature).softmax(0)
    if not bool(probabilities.isfinite().all()):
        raise VidsslError(
            f"{checkpoint}: the probabilities are not finite; is the logit_scale of its config?"
        )
    text = subject.encoder.text
    sigmoid = {} if text.bias is None else {"matches": (cosines / text.temperature + text.bias).sigmoid()}
    record = {
        **result_header("classify", subject),
        "video": str(video),
        "content": content_hash(video)[:16],
        "classes": {"source": listed.source, "names": listed.names, "hash": listed.fingerprint},
        "templates": templates_record(chosen),
        "cut_texts": cut,
        **{
            key: {listed.names[i]: values[i].item() for i in order.tolist()}
            for key, values in {"probabilities": probabilities, **sigmoid}.items()
        },
    }
    return sealed(record)
