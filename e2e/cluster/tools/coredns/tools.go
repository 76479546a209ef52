//go:build tools

// Package tools pins the program to one verified module graph.
package tools

import _ "github.com/coredns/coredns"
