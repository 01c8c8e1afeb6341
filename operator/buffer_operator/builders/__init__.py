"""Builders: pure functions from a buffer to the manifests of its objects.

A manifest holds only fields that the operator owns.
"""
