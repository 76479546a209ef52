//go:build tools

// Package tools pins the program to one verified module graph.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
