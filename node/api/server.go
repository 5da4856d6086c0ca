package api

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

const (
	prefix         = "/api/v1"
	healthPath     = "/healthz"
	instanceHeader = "Sheaf-Instance" // one random name for each run of a node
	stopGrace      = 2 * time.Second  // for answers under way when the node stops
)

// Options of a Server.
type Options struct {
	Version string                 // the program's, for the API's description
	Token   func() (string, error) // the bearer token in force, asked for at each TCP request; nil refuses them all
	Hosts   []string               // names besides loopback under which TCP may be asked (tests, proxies)
	Metrics prometheus.Gatherer    // the node's own metrics, added to /metrics; may be nil
	Log     *slog.Logger           // nil discards
}

// A Server puts a Node behind HTTP. It keeps nothing of what it serves.
type Server struct {
	node     Node
	log      *slog.Logger
	instance string
	document []byte // the OpenAPI document
	routes   []route
	socket   http.Handler
	tcp      http.Handler
	setting  sync.Mutex // held while the configuration is changed
}

// NewServer makes the handlers for a node. It starts nothing.
func NewServer(n Node, o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Token == nil {
		o.Token = func() (string, error) { return "", nil }
	}
	s := &Server{node: n, log: o.Log.With("component", "api"), instance: rand.Text()}

	mux := http.NewServeMux()
	s.register(mux, o.Version)
	mux.HandleFunc("GET "+healthPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.Handle("GET /metrics", s.metrics(o.Metrics))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, newProblem(http.StatusNotFound, "no-such-route",
			"there is nothing at "+r.Method+" "+oneLine(r.URL.Path), "what there is stands in /api/v1/openapi.json"))
	})

	// Profiles tell about memory and file names: only for who has the socket.
	private := http.NewServeMux()
	private.HandleFunc("GET /debug/pprof/", pprof.Index)
	private.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	private.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	private.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	private.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	private.Handle("/", mux)

	g := guard{hosts: o.Hosts, token: o.Token, log: s.log}
	s.socket = hardened(private, s.instance, s.log)
	s.tcp = hardened(g.guarded(mux), s.instance, s.log)
	return s
}

// Socket gives the handler for who can open the socket file: no token, and
// /debug/pprof too.
func (s *Server) Socket() http.Handler { return s.socket }

// TCP gives the handler for loopback TCP, behind token, Host and Origin.
func (s *Server) TCP() http.Handler { return s.tcp }

// Run serves l until ctx ends, then ends waits and event streams, lets other
// answers finish for two seconds, and closes l. It returns nil when it was ctx
// that ended it.
func (s *Server) Run(ctx context.Context, l *Listeners) error {
	// Requests end with ctx, but keep running until they have noticed.
	g, gctx := errgroup.WithContext(ctx)
	serve := func(listener net.Listener, h http.Handler) {
		srv := &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    64 << 10, // a tree path is in the request line
			ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
			BaseContext:       func(net.Listener) context.Context { return gctx },
		}
		g.Go(func() error {
			err := srv.Serve(listener)
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return err
		})
		g.Go(func() error {
			<-gctx.Done()
			grace, cancel := context.WithTimeout(context.WithoutCancel(gctx), stopGrace)
			defer cancel()
			if err := srv.Shutdown(grace); err != nil {
				s.log.Warn("answers under way were cut off", "err", err)
				_ = srv.Close()
			}
			return nil
		})
	}
	serve(l.socket, s.socket)
	if l.tcp != nil {
		serve(l.tcp, s.tcp)
	}
	err := g.Wait()
	if cerr := l.Close(); err == nil {
		err = cerr
	}
	return err
}
