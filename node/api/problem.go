package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"sheaf/node/config"
)

const problemType = "application/problem+json"

// problemDetails is an Error on the wire: RFC 9457 with two members of ours.
type problemDetails struct {
	Type   string `json:"type" doc:"Always about:blank; the code tells problems apart"`
	Title  string `json:"title" doc:"The meaning of the HTTP status"`
	Status int    `json:"status" doc:"The HTTP status"`
	Detail string `json:"detail" doc:"What happened and why, for people"`
	Code   string `json:"code" doc:"What happened, for programs; stable" example:"not-found"`
	Remedy string `json:"remedy,omitempty" doc:"What to do, for people"`
}

// GetStatus, ContentType and Error make it an error that huma serves as it is.
func (p *problemDetails) GetStatus() int            { return p.Status }
func (p *problemDetails) ContentType(string) string { return problemType }
func (p *problemDetails) Error() string             { return p.Detail }

func newProblem(status int, code, detail, remedy string) *problemDetails {
	return &problemDetails{
		Type: "about:blank", Title: http.StatusText(status), Status: status,
		Detail: detail, Code: code, Remedy: remedy,
	}
}

// problemOf tells an error of Node, met under ctx, to the outside. The second
// result says that it is none Node meant to show, so that it is to be logged.
func problemOf(ctx context.Context, err error) (p *problemDetails, unexpected bool) {
	var e *Error
	var c *config.Error
	switch {
	case errors.As(err, &e):
	case errors.As(err, &c):
		e = &Error{Kind: ErrUsage, Code: "bad-setting", Message: c.Message, Remedy: c.Remedy}
	case errors.Is(err, context.DeadlineExceeded):
		e = Errorf(ErrTimeout, "try again with a longer --timeout; `sheaf status` shows what is going on", "it was not done in time")
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		e = Errorf(ErrNotRunning, "start the node with `sheaf up`", "the node is stopping")
	default:
		e = Errorf(ErrFailed, "the node's log says more, and `sheaf doctor` looks for a cause", "%s", err)
		for _, k := range kinds { // a bare sentinel is an answer too
			if errors.Is(err, k.kind) {
				e = &Error{Kind: k.kind, Message: err.Error()}
			}
		}
		unexpected = errors.Is(e, ErrFailed)
	}
	kind := e.Kind
	if kind == nil {
		kind = ErrFailed
	}
	for _, k := range kinds {
		if errors.Is(kind, k.kind) {
			code := e.Code
			if code == "" {
				code = k.code
			}
			return newProblem(k.status, code, oneLine(e.Message), oneLine(e.Remedy)), unexpected
		}
	}
	return newProblem(http.StatusInternalServerError, "failed", oneLine(e.Message), oneLine(e.Remedy)), true
}

// errorOf is the way back: what Client makes of a problem.
func errorOf(status int, p problemDetails) *Error {
	e := &Error{Kind: ErrFailed, Code: p.Code, Message: p.Detail, Remedy: p.Remedy}
	switch {
	case status == http.StatusUnauthorized:
		e.Kind = ErrRefused
	case status >= 400 && status < 500:
		e.Kind = ErrUsage
	}
	for _, k := range kinds {
		if k.status == status {
			e.Kind = k.kind
		}
	}
	return e
}

// ourProblems gives what huma itself refuses (a body that is no JSON, a value
// out of range) the form of all other problems.
func ourProblems(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	detail := m.Detail
	for _, d := range m.Errors {
		if d == nil {
			continue
		}
		detail += "; " + d.Message
		if d.Location != "" {
			detail += " (" + d.Location + ")" // not the value: it may be a code or a name
		}
	}
	code := "usage"
	if m.Status >= 500 {
		code = "failed"
	}
	return newProblem(m.Status, code, oneLine(detail), "the form of every request is in /api/v1/openapi.json"), nil
}

// oneLine keeps a text for people in one line of what they typed a command in.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
