"""``kubectl xbuf``: what a person wants to know and to ask of a buffer.

It talks to the cluster through kubectl alone, so it goes where kubectl goes, with the rights of whoever calls it. It
changes nothing but the ExperienceBuffer itself: whatever follows is the operator's work.
"""
