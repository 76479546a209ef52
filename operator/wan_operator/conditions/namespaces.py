"""The namespace in which the cluster looked for what it did not find.

Kubelet, scheduler, controllers and Kueue name the object alone, and people look for it where the
operator runs, or where they made it.
"""

from __future__ import annotations

import re

_KINDS = (
    "secret|configmap|persistentvolumeclaim|serviceaccount|localqueue|WanFineTune|WanEvaluation"
)
_MISSING = re.compile(
    rf"""\b(?:
        (?:{_KINDS})s?\ "?[a-z0-9][a-z0-9.-]*"?\ (?:not\ found|does\ not\ exist|doesn't\ exist)
        | references\ non-existent\ (?:secret|config)\ key:\ (?>[-.\w]*[-\w])
        | image\ pull\ secrets\ \([^)]*\)
    )(?!\ in\ namespace)""",
    re.IGNORECASE | re.VERBOSE,
)


def placed(text: str, namespace: str) -> str:
    """The text, with the namespace behind each object of a namespace that it misses."""
    return _MISSING.sub(lambda found: f"{found[0]} in namespace {namespace}", text)
