package mesh

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
)

// recorder gives a logger and a function that gives what it wrote at a level.
func recorder() (*slog.Logger, func(level string) []string) {
	var mu sync.Mutex
	var buf bytes.Buffer
	w := writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return buf.Write(p)
	})
	log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return log, func(level string) []string {
		mu.Lock()
		defer mu.Unlock()
		var out []string
		for line := range strings.Lines(buf.String()) {
			if strings.Contains(line, "level="+level) {
				out = append(out, line)
			}
		}
		return out
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
