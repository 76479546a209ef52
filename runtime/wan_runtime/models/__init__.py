"""Base models: where their files are, how they are loaded, and the tiny ones made on the spot."""

from wan_runtime.models import deferred

deferred.defer()
