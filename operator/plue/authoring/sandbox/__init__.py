"""What runs inside the evaluator's process: standard library, RestrictedPython and this folder.

Nothing here imports pydantic or any other part of Plue but ``authoring.codes``: the smaller the
process, the cheaper the fork for each evaluation, and the less there is to escape into.
"""
