"""Frames to views: what is drawn for a sample, and its rendering on the device."""

from vidssl.data.views.render import ViewSpec as ViewSpec
from vidssl.data.views.render import render_views as render_views
