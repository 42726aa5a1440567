"""The interactive part of an exam's page: all maps slice by slice, the series as a film, the curve of each voxel.

It is our own and small: some hundred lines of script without a library. NiiVue, the field's viewer, draws volumes by
WebGL, which remote desktops and old machines lack, takes more than a megabyte of each page, and shows neither the curve
of a voxel with its fit nor maps of one exam under one cursor without as much script again.
"""
