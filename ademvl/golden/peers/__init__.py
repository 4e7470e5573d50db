"""Recomputing golden cases of other methods, recorded from their own released code.

A folder of such cases holds no frozen models: those, the tokenizer, pixels and questions are of the
reference's own set. A method has one module here, which `table` lists; names of cases begin with
letters that each method uses anew.
"""
