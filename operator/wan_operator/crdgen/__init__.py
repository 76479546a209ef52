"""Models -> the CRDs, the chart's copy of them, the API reference and the page on troubleshooting:
`python -m wan_operator.crdgen`.

All is pure; only `__main__` touches files.
"""
