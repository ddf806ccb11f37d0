"""Reports with pictures: one self-contained HTML page, and pictures on their own."""

from edgepack.reports.built import Build, packed, size_picture
from edgepack.reports.drawing import Picture, standalone
from edgepack.reports.fronts import Point, Scale, front_picture
from edgepack.reports.page import render
from edgepack.reports.searched import Search, Trial
from edgepack.reports.timing import course_picture, latency_picture

__all__ = [
    "Build",
    "Picture",
    "Point",
    "Scale",
    "Search",
    "Trial",
    "course_picture",
    "front_picture",
    "latency_picture",
    "packed",
    "render",
    "size_picture",
    "standalone",
]
