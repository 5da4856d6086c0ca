//go:build race

package mesh

// raceDetector: memory figures mean nothing under it.
const raceDetector = true
