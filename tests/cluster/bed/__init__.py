"""The test bed: a real control plane and a real node with gVisor, on one Linux machine.

``build`` makes the programs from public source, once, into a cache outside the repository;
``images`` makes the images; ``control_plane`` starts etcd and the API server, alone for tests of
the resources; ``node`` puts all of it into namespaces of its own, from which no packet leaves and
of which nothing stays. ``python -m cluster.bed`` is the command; see the Makefile.
"""
