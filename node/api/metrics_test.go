package api

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	own := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "sheaf_own_total", Help: "h"})
	own.MustRegister(counter)
	f := newFake()
	s := NewServer(f, Options{Metrics: own})
	get := func() string {
		w := httptest.NewRecorder()
		s.Socket().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/metrics", nil))
		return w.Body.String()
	}
	text := get()
	for _, want := range []string{
		`sheaf_info{version="1.2.3"} 1`, `sheaf_folder_need_bytes{folder="Sync"} 1024`, `sheaf_folder_problems{folder="Sync"} 1`,
		`sheaf_folder_state{folder="Sync",state="syncing"} 1`, `sheaf_folder_state{folder="Sync",state="idle"} 0`,
		`sheaf_peers_connected{path="lan"} 1`, `sheaf_peers_connected{path="relayed"} 0`,
		`sheaf_sent_bytes_total 10`, `sheaf_received_bytes_total 20`, "sheaf_own_total 0", "go_goroutines ",
	} {
		if !strings.Contains(text, want+"\n") && !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	f.err = errors.New("down")
	if text := get(); !strings.Contains(text, "go_goroutines") || strings.Contains(text, "sheaf_folder_files") {
		t.Error("a failing node must leave the rest of the metrics")
	}
}
