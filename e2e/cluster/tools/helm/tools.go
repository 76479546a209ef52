//go:build tools

// Package tools pins the program to one verified module graph.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
