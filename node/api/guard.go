package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxBody bounds the body of a request: the longest is a list of trash IDs.
const maxBody = 1 << 20

// A guard stands before the TCP door. It lets through who is the user.
type guard struct {
	hosts []string               // names under which this machine may be asked
	token func() (string, error) // the token in force
	log   *slog.Logger
}

// refusal tells why a request does not come from the user, nil if it does.
//
// The order matters: a request under a foreign name or from a foreign page is
// refused before its token is looked at, so that a page learns nothing.
func (g guard) refusal(r *http.Request) *problemDetails {
	if !g.ours(r.Host) {
		// A page may point a name of its own at 127.0.0.1 (DNS rebinding); the
		// browser then lets it read what we answer. It cannot forge Host.
		return newProblem(http.StatusForbidden, "foreign-host",
			"the request names a host that is not this machine", "use 127.0.0.1, [::1] or localhost")
	}
	if foreignPage(r) {
		return newProblem(http.StatusForbidden, "foreign-origin",
			"the request comes from a web page of another origin", "use a program, or the page this node serves")
	}
	if r.URL.Path == healthPath {
		return nil
	}
	want, err := g.token()
	if err != nil {
		g.log.Error("read the API token", "err", err)
		return newProblem(http.StatusInternalServerError, "failed",
			"the node cannot read its token file", "see the node's log")
	}
	got, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !bearer || !same(got, want) {
		return newProblem(http.StatusUnauthorized, "unauthorized",
			"the request carries no token, or a wrong one", "send `Authorization: Bearer TOKEN`; `sheaf config token` prints the token")
	}
	return nil
}

// ours tells whether a Host header names this machine by a name no page can own.
func (g guard) ours(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	if host == "localhost" || slices.Contains(g.hosts, host) {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// foreignPage tells whether a browser says that another site's page asks.
func foreignPage(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return true
	}
	for _, origin := range r.Header.Values("Origin") {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "http" || !strings.EqualFold(u.Host, r.Host) {
			return true
		}
	}
	return false
}

// same compares secrets in a time that tells nothing of where they differ.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return b != "" && subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// guarded is next behind the guard.
func (g guard) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := g.refusal(r); p != nil {
			if p.Status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="sheaf"`)
			}
			writeProblem(w, p)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hardened bounds what comes in, tells browsers to do nothing with what goes
// out, and turns a panic into an answer.
func hardened(next http.Handler, instance string, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		h.Set(instanceHeader, instance)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v)
				}
				log.Error("panic while answering", "method", r.Method, "route", r.Pattern, "panic", v)
				writeProblem(w, newProblem(http.StatusInternalServerError, "failed",
					"the node met a fault of its own", "see the node's log, and report it"))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func writeProblem(w http.ResponseWriter, p *problemDetails) {
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone if this fails
}
