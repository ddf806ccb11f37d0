"""Reports with pictures: one self-contained HTML page a bundle, and pictures on their own."""

from edgepack.reports.page import render
from edgepack.reports.pictures import course_picture, latency_picture, size_picture, standalone

__all__ = ["course_picture", "latency_picture", "render", "size_picture", "standalone"]
