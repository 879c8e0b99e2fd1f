"""The artifact store: layout, manifests, step cache and integrity checks, on any fsspec file system.

```
<store>/<team>/artifacts/<ab>/<sha256>.<suffix>   immutable, named by content
<store>/<team>/manifests/<ab>/<key>.json          written last: what makes a step's outputs visible
<store>/<team>/tmp/<host>-<pid>-<random>/         work in progress of a running step (local stores)
```
"""

from kommuna.store.manifest import Artifact, Lineage, Manifest
from kommuna.store.store import Store

__all__ = ["Artifact", "Lineage", "Manifest", "Store"]
