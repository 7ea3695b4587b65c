"""What runs on the other side of the wall: the fork server and the children it jails.

These modules import nothing but the standard library and each other: the server is executed clean (no site-packages,
no environment), with this package as the only thing of ours it can see. The trainer imports `codec` and `policy` from
here too, so that both sides agree by construction.
"""
