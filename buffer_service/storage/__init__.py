"""Durable storage: one interface (``base.Store``) and two adapters with the same promises.

The log of operations, and the one fold that turns it into state, are defined here; both adapters and recovery use
that fold.
"""
