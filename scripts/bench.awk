# SPDX-License-Identifier: GPL-2.0
#
# What scripts/bench makes of what selftests/bench printed: bench.md, bench.json
# and bench.svg in the directory "out", and with "check" on standard error what is
# over a limit; the exit status is 1 if anything is. Input files: one for each run,
# the first is the one that is shown; a last one, named unpatched, is of the kernel
# without the series.
#
# Variables: out, about (what was measured), check, tolerance (of C beside ferric).

# The most that ferric may have of C's instructions; 0: nothing is said.
function limit(name, what) {
	if (name ~ /^boot_/)
		return name == "boot_map_255" || (name == "boot_create_255" && what == "own") ? 0.15 : 1
	if (name !~ /halted|running/ && name ~ /_(63|64|254|255)$/)
		return 0.35
	if (what == "own")
		return name ~ /_eoi$|_unicast_|_self_ipi|_arm$|_fire$/ ? 0.8 : 0
	return 1
}

# What makes no exit costs nothing on either side: nothing has to be less than that.
function ratio(a, b) { return b ? a / b : a ? 999 : 0 }

function ratio_text(a, b) { return a || b ? sprintf("%.3f", ratio(a, b)) : "none" }

function over(text) { print "ferric: " text > "/dev/stderr"; missed++ }

function judge(name, what, value, most) {
	if (most && value > most)
		over(sprintf("%s: %s ratio %.3f, at most %.2f", name, what, value, most))
}

# Each CPU's share of the work at boot must not grow with their number.
function judge_growth(provider,  small, large) {
	small = (own["boot_create_16", provider] + own["boot_map_16", provider]) / 16
	large = (own["boot_create_1024", provider] + own["boot_map_1024", provider]) / 1024
	if (small && large > 1.25 * small)
		over(sprintf("boot: %d instructions for each of 16 vCPUs, %d for each of 1024",
			small, large))
}

function deviates(name, provider, what, value, first) {
	value = first ? (value > first ? value - first : first - value) / first : value > 0
	compared++
	if (value > deviation) {
		deviation = value
		deviant = name ", " provider ", " what
	}
}

function text(x, y, string, more) {
	printf("<text x=\"%d\" y=\"%d\"%s>%s</text>\n", x, y, more, string) > svg
}

function bar(y, value, color,  width) {
	width = value > 1.5 ? 1.5 : value
	printf("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"7\" fill=\"%s\"/>\n",
		left, y, width * scale, color) > svg
}

function chart(  r, name, y, i, most) {
	svg = out "/bench.svg"
	left = 230; scale = 400; row_height = 20; top = 56
	height = top + rows * row_height + 10
	printf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" ", 900, height) > svg
	print "font-family=\"sans-serif\" font-size=\"12\">" > svg
	printf("<rect width=\"900\" height=\"%d\" fill=\"white\"/>\n", height) > svg
	text(10, 20, "Instructions with ferric, divided by those with KVM&#8217;s C irqchip", " font-weight=\"bold\"")
	bar(33, 0.03, "#4477aa"); text(left + 18, 41, "whole operation", "")
	printf("<rect x=\"%d\" y=\"33\" width=\"12\" height=\"7\" fill=\"#ee7733\"/>\n", left + 130) > svg
	text(left + 148, 41, "the irqchip&#8217;s own share", "")
	printf("<rect x=\"%d\" y=\"32\" width=\"2\" height=\"9\" fill=\"#bb0000\"/>\n", left + 310) > svg
	text(left + 318, 41, "at most", "")
	for (i = 0; i <= 6; i++) {
		printf("<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"%s\"/>\n",
			left + i * scale / 4, top - 4, left + i * scale / 4, height - 8,
			i == 4 ? "#444444" : "#dddddd") > svg
		text(left + i * scale / 4, top - 6, sprintf("%.2f", i / 4), " text-anchor=\"middle\" fill=\"#666666\" font-size=\"10\"")
	}
	for (r = 1; r <= rows; r++) {
		name = row[r]
		y = top + (r - 1) * row_height
		text(left - 8, y + 13, name, " text-anchor=\"end\"")
		bar(y + 2, ratio(whole[name, "ferric"], whole[name, "kvm"]), "#4477aa")
		bar(y + 10, ratio(own[name, "ferric"], own[name, "kvm"]), "#ee7733")
		for (i = 0; i < 2; i++) {
			most = limit(name, i ? "own" : "whole")
			if (most && most < 1)
				printf("<rect x=\"%d\" y=\"%d\" width=\"2\" height=\"9\" fill=\"#bb0000\"/>\n",
					left + most * scale, y + 1 + 8 * i) > svg
		}
		text(left + 1.5 * scale + 10, y + 13, whole[name, "kvm"] ? sprintf("%.2f  %.2f",
			ratio(whole[name, "ferric"], whole[name, "kvm"]),
			ratio(own[name, "ferric"], own[name, "kvm"])) : "none", " fill=\"#666666\" font-size=\"10\"")
	}
	print "</svg>" > svg
}

function counts(name, provider) {
	return sprintf("{\"rounds\": %d, \"whole\": {\"min\": %d, \"middle\": %d}, \"own\": {\"min\": %d, \"middle\": %d}}",
		rounds[name, provider], least_whole[name, provider], whole[name, provider],
		least_own[name, provider], own[name, provider])
}

function data(  r, name, json, i) {
	json = out "/bench.json"
	printf("{\n  \"about\": \"%s\",\n  \"unit\": \"instructions\",\n  \"operations\": [\n", about) > json
	for (r = 1; r <= rows; r++) {
		name = row[r]
		printf("    {\"name\": \"%s\", \"kvm\": %s, \"ferric\": %s%s}%s\n", name,
			counts(name, "kvm"), counts(name, "ferric"),
			has_unpatched ? ", \"unpatched\": " counts(name, "unpatched") : "",
			r < rows ? "," : "") > json
	}
	print "  ],\n  \"bytes\": {" > json
	for (i = 1; i <= sizes; i++)
		printf("    \"%s\": {\"kvm\": %d, \"ferric\": %d}%s\n", size[i], bytes[size[i], "kvm"],
			bytes[size[i], "ferric"], i < sizes ? "," : "") > json
	print "  }\n}" > json
}

function most(name, what) { return limit(name, what) ? sprintf("%.2f", limit(name, what)) : "" }

function table(  r, name, md, i, line) {
	md = out "/bench.md"
	print about "\n" > md
	line = "| operation                    |     whole, C |     ferric | ratio | at most |       own, C |     ferric | ratio | at most |"
	print line > md
	gsub(/[^|]/, "-", line)
	gsub(/-\|/, ":|", line)
	sub(/:\|/, "-|", line)
	print line > md
	for (r = 1; r <= rows; r++) {
		name = row[r]
		printf("| %-28s | %12d | %10d | %5s | %7s | %12d | %10d | %5s | %7s |\n", name,
			whole[name, "kvm"], whole[name, "ferric"],
			ratio_text(whole[name, "ferric"], whole[name, "kvm"]), most(name, "whole"),
			own[name, "kvm"], own[name, "ferric"],
			ratio_text(own[name, "ferric"], own[name, "kvm"]), most(name, "own")) > md
	}
	if (sizes) {
		print "\n| memory        |   C, bytes | ferric, bytes | ratio |" > md
		print "|---------------|-----------:|--------------:|------:|" > md
	}
	for (i = 1; i <= sizes; i++)
		printf("| %-13s | %10d | %13d | %5.3f |\n", size[i], bytes[size[i], "kvm"],
			bytes[size[i], "ferric"], ratio(bytes[size[i], "ferric"], bytes[size[i], "kvm"])) > md
	if (has_unpatched) {
		print "\n| operation                    |    unpatched | C beside ferric | ratio |" > md
		print "|------------------------------|-------------:|----------------:|------:|" > md
		for (r = 1; r <= rows; r++)
			printf("| %-28s | %12d | %15d | %5s |\n", row[r], whole[row[r], "unpatched"],
				whole[row[r], "kvm"], ratio_text(whole[row[r], "kvm"], whole[row[r], "unpatched"])) > md
	}
}

FNR == 1 { runs++ }

$1 == "count" && NF == 8 {
	provider = $3
	if (FILENAME ~ /unpatched$/) {
		provider = "unpatched"
		has_unpatched = 1
	} else if (runs > 1) {
		deviates($2, provider, "whole", $6, whole[$2, provider])
		deviates($2, provider, "own", $8, own[$2, provider])
		next
	} else if (provider == "kvm") {
		row[++rows] = $2
	}
	rounds[$2, provider] = $4
	least_whole[$2, provider] = $5
	whole[$2, provider] = $6
	least_own[$2, provider] = $7
	own[$2, provider] = $8
}

$1 == "bytes" && NF == 4 && runs == 1 {
	if ($3 == "kvm")
		size[++sizes] = $2
	bytes[$2, $3] = $4
}

END {
	table()
	data()
	chart()
	for (r = 1; r <= rows && check; r++) {
		name = row[r]
		judge(name, "whole", ratio(whole[name, "ferric"], whole[name, "kvm"]), limit(name, "whole"))
		judge(name, "own", ratio(own[name, "ferric"], own[name, "kvm"]), limit(name, "own"))
		if (has_unpatched)
			judge(name " on C beside ferric", "whole",
				ratio(whole[name, "kvm"], whole[name, "unpatched"]), tolerance)
	}
	if (check)
		judge_growth("ferric")
	if (compared) {
		printf("ferric: the largest deviation in %d counts is %.3f %% (%s)\n", compared,
			deviation * 100, deviant) > "/dev/stderr"
		if (check && deviation > 0.005)
			over("that is more than 0.5 %")
	}
	exit missed > 0
}
