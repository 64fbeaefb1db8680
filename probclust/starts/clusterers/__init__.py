"""Clustering algorithms that starts stand on: functions of arrays that know of no story."""
