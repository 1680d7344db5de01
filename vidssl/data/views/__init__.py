"""Frames to views: what is drawn for a sample, and its rendering on the device."""

from vidssl.data.views.render import render_views as render_views
from vidssl.data.views.spec import ViewSpec as ViewSpec
