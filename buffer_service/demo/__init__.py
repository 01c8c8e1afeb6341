"""The main job on real input: a learner whose only memory is the buffer recognises digits as they stream in.

Talks to the service over HTTP with ``buffer_client`` alone, as an inference pod and a trainer would.
"""
