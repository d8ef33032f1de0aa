//go:build race

package app_test

// raceDetector says that memory is watched, which takes several times as much of it.
const raceDetector = true
