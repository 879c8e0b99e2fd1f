//go:build tools

// The two programs of Cilium that the test cluster runs: named here so that go.mod pins what they import.
package tools

import (
	_ "github.com/cilium/cilium/daemon"
	_ "github.com/cilium/cilium/plugins/cilium-cni"
)
