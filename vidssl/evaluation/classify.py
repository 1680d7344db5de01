"""`vidssl classify`: which of some actions one video shows, as a whole and over its time."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from einops import rearrange

from vidssl.data.decode import open_video
from vidssl.data.manifest.content import content_hash
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError
from vidssl.evaluation.answers.timeline import filled, windows_of
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
    window: float | None = None,
    every: float | None = None,
    options: EvalOptions | None = None,
) -> Result:
    """Which of some actions one video shows.

    Args:
        labels: class names separated by commas, or a class list file.
        window: seconds of the windows that are classified one by one, in place of the clips of `options`; None: none.
        every: seconds from window to window, see `windows_of`.

    Returns:
        JSON-able result; ``probabilities`` maps names to numbers that sum to 1, most likely first. Of an encoder trained with
        a sigmoid for each pair (SigLIP), ``matches`` has the probability that each name by itself fits, which can be low for all.
        With `window`, ``over_time`` has ``start`` and ``end`` in seconds and ``probabilities`` of each, and the first are of their mean feature.

    Raises:
        VidsslError: for `every` without `window`, and when the video cannot be decoded, or its features are not finite (named with the reason).
    """
    if every is not None and window is None:
        raise VidsslError(f"every={every:g}: is from window to window; give window too")
    subject = load_subject(checkpoint, options)
    if Path(labels).is_file():
        listed = read_classes(Path(labels))
    else:
        listed = class_list([name.strip() for name in labels.split(",") if name.strip()], "labels")
    chosen = resolve_templates(templates, listed)
    cut = cut_texts(subject.encoder, class_prompts(listed, chosen))
    index, windows = VideoIndex.of_files([video]), []
    if window is not None:
        with closing(open_video(index.path(0), subject.options.backend)) as reader:
            windows = windows_of(reader.times, window, every)
        shown = replace(subject.options, clips=len(windows), seconds=window, stride=None)
        subject = replace(subject, options=shown, untrained=None)
    features = extract_features(subject, index, apart=window is not None, description="classify")
    if features.failures:
        raise VidsslError(f"{video}: {features.failures[0].reason}")
    classifier = text_classifier(subject.encoder, listed, chosen).cpu()
    rows = features.features["trained/unit"]
    if window is not None:
        views = rearrange(rows[0], "(w c) d -> w c d", w=len(windows)).mean(dim=1)  # crops of a window
        each = filled(views, rearrange(features.shown[0], "(w c) -> w c", w=len(windows))[:, 0])
        rows = rows[0][features.shown[0]].mean(dim=0, keepdim=True)
    cosines = zero_shot_scores(rows, classifier)[0]
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
    if window is not None:
        over_time = (zero_shot_scores(each, classifier) / text.temperature).softmax(1)
        record["over_time"] = [
            {
                "start": start,
                "end": end,
                "probabilities": {listed.names[i]: row[i].item() for i in order.tolist()},
            }
            for (start, end), row in zip(windows, over_time, strict=True)
        ]
    return sealed(record)
