// SPDX-License-Identifier: MIT
// hlog.js PACKAGE-FOLDER LOG...: what hdr-histogram-js reads in each log, as JSON: a list of
// intervals, with percentiles, and the percentile distribution, in ns, as it writes it.
'use strict';
const fs = require('fs');
const hdr = require(process.argv[2]);

function read(path) {
  const reader = new hdr.HistogramLogReader(fs.readFileSync(path, 'utf8'), 64);
  const found = [];
  for (let one = reader.nextIntervalHistogram(); one; one = reader.nextIntervalHistogram()) {
    found.push({
      tag: one.tag,
      start_ms: one.startTimeStampMsec,
      end_ms: one.endTimeStampMsec,
      count: one.totalCount,
      max: one.maxValue,
      digits: one.numberOfSignificantValueDigits,
      percentiles: [50, 90, 99, 99.9].map((percent) => one.getValueAtPercentile(percent)),
      highest_equivalent_of_max: one.highestEquivalentValue(one.maxValue),
      distribution: one.outputPercentileDistribution(5, 1),
    });
  }
  return found;
}

const answer = {};
for (const path of process.argv.slice(3)) {
  answer[path] = read(path);
}
console.log(JSON.stringify(answer));
