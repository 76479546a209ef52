"""The files of a finished video: encoded, described and delivered. No torch."""
