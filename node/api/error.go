package api

import (
	"errors"
	"fmt"
	"net/http"
)

// The kinds of failure a caller may act on. errors.Is finds them in an *Error
// on both ends of the wire.
var (
	ErrUsage      = errors.New("wrong usage")             // the request makes no sense; exit 2
	ErrNotFound   = errors.New("not found")               // what it names does not exist; exit 1
	ErrConflict   = errors.New("in the way")              // something is in the way of it; exit 1
	ErrRefused    = errors.New("refused")                 // not a member, quota, expired, wrong token; exit 5
	ErrTimeout    = errors.New("timed out")               // it did not happen in time; exit 4
	ErrNotRunning = errors.New("the node is not running") // nobody answers; exit 3
	ErrLater      = errors.New("needs a later release")   // known, but not in this release; exit 1
	ErrFailed     = errors.New("failed")                  // anything else; exit 1
)

// ErrRestart is what a node's Run returns when it was stopped in order to be
// started again.
var ErrRestart = errors.New("the node is to be started again")

// kinds gives each kind its stable code, HTTP status and exit status.
var kinds = []struct {
	kind   error
	code   string
	status int
	exit   int
}{
	{ErrUsage, "usage", http.StatusBadRequest, 2},
	{ErrNotFound, "not-found", http.StatusNotFound, 1},
	{ErrConflict, "in-the-way", http.StatusConflict, 1},
	{ErrRefused, "refused", http.StatusForbidden, 5},
	{ErrTimeout, "timeout", http.StatusGatewayTimeout, 4},
	{ErrNotRunning, "not-running", http.StatusServiceUnavailable, 3},
	{ErrLater, "later-release", http.StatusNotImplemented, 1},
	{ErrFailed, "failed", http.StatusInternalServerError, 1},
}

// An Error is a failure told to a person: what happened and why, and what to
// do. It goes over the wire as RFC 9457 problem details and comes out of Client
// the same.
type Error struct {
	Kind    error  // one of the kinds above; nil is ErrFailed
	Code    string // stable, for programs: the kind's own if empty ("invite-expired" is a refusal)
	Message string // what happened and why, one line without a final stop
	Remedy  string // what to do, one line
	Cause   error  // for the log; never sent, for it may name what is nobody's business
}

// Errorf makes an Error of a kind, its Message formatted as by fmt.Errorf: an
// error given to %w becomes the Cause.
func Errorf(kind error, remedy, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: err.Error(), Remedy: remedy, Cause: errors.Unwrap(err)}
}

// Error gives message and remedy in one line.
func (e *Error) Error() string {
	if e.Remedy == "" {
		return e.Message
	}
	return e.Message + "; " + e.Remedy
}

// Unwrap gives kind and cause.
func (e *Error) Unwrap() []error {
	var list []error
	for _, err := range []error{e.Kind, e.Cause} {
		if err != nil {
			list = append(list, err)
		}
	}
	return list
}

// ExitStatus gives the exit status the command line contract has for err: 0 for
// nil, 1 for what is of no kind.
func ExitStatus(err error) int {
	if err == nil {
		return 0
	}
	var e *Error
	if errors.As(err, &e) && e.Kind != nil {
		err = e.Kind
	}
	for _, k := range kinds {
		if errors.Is(err, k.kind) {
			return k.exit
		}
	}
	return 1
}
