"""The operator: reconciles ExperienceBuffer resources.

The way of a change: ``handlers`` and ``watches`` put the buffer's key into ``queue``; a worker calls ``reconcile``,
which looks at everything (``observe``), decides (``plan``, pure), acts (``apply``) and writes what it saw (``status``,
pure).
"""
