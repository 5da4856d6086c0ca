package api

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics serves the node's status, the Go runtime's figures and, if there are
// any, the node's own, in Prometheus' text format.
func (s *Server) metrics(more prometheus.Gatherer) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), statusCollector{s})
	all := prometheus.Gatherers{reg}
	if more != nil {
		all = append(all, more)
	}
	return promhttp.HandlerFor(all, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// statusCollector turns a Status into metrics when it is asked.
type statusCollector struct{ server *Server }

// One row for each metric of a folder. Names end in a unit where there is one.
var folderMetrics = []struct {
	desc  *prometheus.Desc
	value func(Folder) float64
}{
	{folderDesc("files", "Files in the folder."), func(f Folder) float64 { return float64(f.Files) }},
	{folderDesc("directories", "Directories in the folder."), func(f Folder) float64 { return float64(f.Directories) }},
	{folderDesc("bytes", "Bytes of all files in the folder."), func(f Folder) float64 { return float64(f.Bytes) }},
	{folderDesc("need_files", "Files that others have and this disk does not yet."), func(f Folder) float64 { return float64(f.NeedFiles) }},
	{folderDesc("need_bytes", "Bytes still to be fetched."), func(f Folder) float64 { return float64(f.NeedBytes) }},
	{folderDesc("conflicts", "Conflict copies in the folder."), func(f Folder) float64 { return float64(f.Conflicts) }},
	{folderDesc("problems", "What waits for a person in the folder."), func(f Folder) float64 { return float64(len(f.Problems)) }},
}

var (
	infoDesc     = prometheus.NewDesc("sheaf_info", "1, with the program's version.", []string{"version"}, nil)
	stateDesc    = prometheus.NewDesc("sheaf_folder_state", "1 for the state the folder is in.", []string{"folder", "state"}, nil)
	peersDesc    = prometheus.NewDesc("sheaf_peers_connected", "Peers connected, by way.", []string{"path"}, nil)
	sentDesc     = prometheus.NewDesc("sheaf_sent_bytes_total", "Payload and protocol sent since start.", nil, nil)
	receivedDesc = prometheus.NewDesc("sheaf_received_bytes_total", "Payload and protocol received since start.", nil, nil)
)

func folderDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("sheaf_folder_"+name, help, []string{"folder"}, nil)
}

// Describe tells the registry what Collect gives.
func (c statusCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{infoDesc, stateDesc, peersDesc, sentDesc, receivedDesc} {
		ch <- d
	}
	for _, m := range folderMetrics {
		ch <- m.desc
	}
}

// Collect asks the node.
func (c statusCollector) Collect(ch chan<- prometheus.Metric) {
	// The registry passes no context on; a Status is quick, or something is wrong.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	st, err := c.server.node.Status(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(infoDesc, err)
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(infoDesc, 1, st.Device.Version)
	for _, f := range st.Folders {
		for _, m := range folderMetrics {
			gauge(m.desc, m.value(f), f.Name)
		}
		for _, state := range []State{Idle, Scanning, Syncing, Paused, Failing} {
			v := 0.0
			if f.State == state {
				v = 1
			}
			gauge(stateDesc, v, f.Name, string(state))
		}
	}
	ways := map[string]int{PathLAN: 0, PathDirect: 0, PathRelayed: 0}
	for _, p := range st.Peers {
		if p.Connected {
			ways[p.Path]++
		}
	}
	for way, n := range ways {
		gauge(peersDesc, float64(n), way)
	}
	ch <- prometheus.MustNewConstMetric(sentDesc, prometheus.CounterValue, float64(st.Traffic.SentBytes))
	ch <- prometheus.MustNewConstMetric(receivedDesc, prometheus.CounterValue, float64(st.Traffic.ReceivedBytes))
}
