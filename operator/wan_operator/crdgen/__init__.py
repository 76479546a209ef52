"""Models -> the CRDs, the chart's copy of them and the API reference: `python -m
wan_operator.crdgen`.

All is pure; only `__main__` touches files.
"""
