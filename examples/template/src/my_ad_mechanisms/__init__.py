"""Mechanisms for simenv."""
