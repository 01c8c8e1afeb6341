"""The buffer itself: one writer, many readers, no HTTP. ``ExperienceBuffer`` is the class to use in a script."""

from buffer_service.core.buffer import ExperienceBuffer
from buffer_service.core.experience import Experience, StoredExperience
from buffer_service.core.ranking import Rank

__all__ = ["Experience", "ExperienceBuffer", "Rank", "StoredExperience"]
