"""Steps that ask a model: one typed answer (``llm``), or turns with tools (``agent``).

The client library takes seconds to import, so nothing here does so at the top of a module: a
runner imports it when its plan has such a step, beside the steps that run before.
"""
