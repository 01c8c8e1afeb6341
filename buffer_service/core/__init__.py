"""The buffer itself: one writer, many readers, no HTTP. ``ExperienceBuffer`` is the class to use in a script."""

from buffer_service.core.buffer import ExperienceBuffer
from buffer_service.core.experience import Experience, StoredExperience

__all__ = ["Experience", "ExperienceBuffer", "StoredExperience"]
