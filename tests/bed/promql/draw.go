package main

import (
	"fmt"
	"html"
	"math"
	"strings"
	"time"
)

// Pixels of a grid's unit, and around what is in it.
const (
	unitX, unitY = 42, 24
	margin       = 4
	padding      = 10
)

var colours = []string{"#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0"}

// Draws all panels, each where it is in Grafana.
func (all *dashboard) draw() string {
	height := 0
	for _, shown := range all.Panels {
		height = max(height, (shown.GridPos.Y+shown.GridPos.H)*unitY)
	}
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", 24*unitX, height)
	fmt.Fprintf(&svg, `<rect width="%d" height="%d" fill="#111217"/>`+"\n", 24*unitX, height)
	for _, shown := range all.Panels {
		shown.draw(&svg)
	}
	svg.WriteString("</svg>\n")
	return svg.String()
}

func (shown *panel) draw(svg *strings.Builder) {
	x, y := shown.GridPos.X*unitX+margin, shown.GridPos.Y*unitY+margin
	width, height := shown.GridPos.W*unitX-2*margin, shown.GridPos.H*unitY-2*margin
	if shown.Type == "row" {
		text(svg, x, y+12, "#ccccdc", "start", 13, shown.Title)
		return
	}
	fmt.Fprintf(svg, `<rect x="%d" y="%d" width="%d" height="%d" rx="3" fill="#181b1f" stroke="#2b2e34"/>`+"\n", x, y, width, height)
	if shown.Type == "stat" {
		shown.drawStat(svg, x, y, width, height)
		return
	}
	text(svg, x+padding, y+15, "#ccccdc", "start", 11, shown.Title)
	shown.drawLines(svg, x, y, width, height)
}

func (shown *panel) drawStat(svg *strings.Builder, x, y, width, height int) {
	value, colour := "No data", "#8e8e8e"
	if len(shown.drawn) > 0 && len(shown.drawn[0].points) > 0 {
		points := shown.drawn[0].points
		last := points[len(points)-1].F
		value, colour = format(last, shown.FieldConfig.Defaults.Unit), "#ccccdc"
		for _, step := range shown.FieldConfig.Defaults.Thresholds.Steps {
			if step.Value == nil || last >= *step.Value {
				colour = map[string]string{"red": "#f2495c", "green": "#73bf69"}[step.Color]
			}
		}
	}
	// Low panels have the value beside the title.
	if height < 3*unitY {
		text(svg, x+padding, y+height/2+4, "#ccccdc", "start", 11, shown.Title)
		text(svg, x+width-padding, y+height/2+6, colour, "end", 18, value)
		return
	}
	text(svg, x+padding, y+15, "#ccccdc", "start", 10, shown.Title)
	text(svg, x+width/2, y+height/2+18, colour, "middle", 24, value)
}

func (shown *panel) drawLines(svg *strings.Builder, x, y, width, height int) {
	low, high, begin, end := math.Inf(1), math.Inf(-1), int64(math.MaxInt64), int64(0)
	for _, drawn := range shown.drawn {
		for _, point := range drawn.points {
			if !math.IsNaN(point.F) {
				low, high = math.Min(low, point.F), math.Max(high, point.F)
			}
			begin, end = min(begin, point.T), max(end, point.T)
		}
	}
	if end <= begin {
		text(svg, x+width/2, y+height/2, "#8e8e8e", "middle", 13, "No data")
		return
	}
	if shown.FieldConfig.Defaults.Min != nil {
		low = math.Min(low, *shown.FieldConfig.Defaults.Min)
	}
	if high <= low {
		high = low + 1
	}
	left, right, top, bottom := float64(x+52), float64(x+width-padding), float64(y+28), float64(y+height-36)
	unit := shown.FieldConfig.Defaults.Unit
	for _, part := range []float64{0, 0.5, 1} {
		level := bottom - part*(bottom-top)
		fmt.Fprintf(svg, `<path d="M%.1f %.1fH%.1f" stroke="#2b2e34"/>`+"\n", left, level, right)
		text(svg, int(left)-6, int(level)+4, "#8e8e8e", "end", 10, format(low+part*(high-low), unit))
	}
	legend := x + padding
	for number, drawn := range shown.drawn {
		colour := colours[number%len(colours)]
		var path strings.Builder
		command := "M"
		for _, point := range drawn.points {
			if math.IsNaN(point.F) {
				command = "M"
				continue
			}
			across := left + float64(point.T-begin)/float64(end-begin)*(right-left)
			fmt.Fprintf(&path, "%s%.1f %.1f", command, across, bottom-(point.F-low)/(high-low)*(bottom-top))
			command = "L"
		}
		fmt.Fprintf(svg, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", path.String(), colour)
		wide := 18 + 6*len(drawn.legend)
		if legend+wide <= x+width {
			fmt.Fprintf(svg, `<rect x="%d" y="%d" width="8" height="3" fill="%s"/>`+"\n", legend, y+height-14, colour)
			text(svg, legend+12, y+height-9, "#ccccdc", "start", 10, drawn.legend)
		}
		legend += wide + 6
	}
}

func text(svg *strings.Builder, x, y int, colour, anchor string, size int, words string) {
	fmt.Fprintf(svg, `<text x="%d" y="%d" fill="%s" text-anchor="%s" font-size="%d">%s</text>`+"\n", x, y, colour, anchor, size, html.EscapeString(words))
}

// A value as Grafana shows it in this unit.
func format(value float64, unit string) string {
	switch unit {
	case "s":
		return formatSeconds(value)
	case "bytes":
		return fmt.Sprintf("%.0f MiB", value/(1<<20))
	case "reqps":
		return fmt.Sprintf("%.3g/s", value)
	}
	return fmt.Sprintf("%.3g", value)
}

func formatSeconds(value float64) string {
	size := math.Abs(value)
	switch {
	case size == 0:
		return "0"
	case size < 1:
		return fmt.Sprintf("%.3g ms", value*1000)
	case size < 2*time.Minute.Seconds():
		return fmt.Sprintf("%.3g s", value)
	case size < 2*time.Hour.Seconds():
		return fmt.Sprintf("%.0f min", value/60)
	case size < 48*time.Hour.Seconds():
		return fmt.Sprintf("%.1f h", value/3600)
	}
	return fmt.Sprintf("%.0f days", value/86400)
}
