//go:build tools

// Package tools pins miniaudio.h, which ollama's own module zip lacks: malgo carries the same header.
package tools

import _ "github.com/gen2brain/malgo"
