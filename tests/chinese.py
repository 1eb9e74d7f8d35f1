"""Two hundred short posts in Chinese, written for the tests: ten things, each praised in ten ways
and blamed in ten."""

THINGS = (
    "这家面馆的牛肉面",
    "昨晚看的电影",
    "新买的耳机",
    "楼下的早餐铺",
    "这次的快递",
    "公司的食堂",
    "周末住的旅馆",
    "刚下载的软件",
    "隔壁的理发店",
    "朋友推荐的书",
)
PRAISE = (
    "真不错，下次还来",
    "让人特别满意",
    "比我想的好多了",
    "值得推荐给大家",
    "太棒了，开心一整天",
    "又便宜又好",
    "细节做得很用心",
    "我爱死了",
    "好得没话说",
    "惊喜连连，点赞",
)
BLAME = (
    "太差了，再也不来",
    "让人非常失望",
    "比我想的糟多了",
    "千万别浪费钱",
    "烂透了，气了一整天",
    "又贵又难受",
    "做得很敷衍",
    "我后悔死了",
    "差得没话说",
    "全是问题，差评",
)


def posts() -> list[dict[str, str]]:
    """Return the posts as rows with text, label and group, which is the thing they speak of."""
    return [
        {"text": f"{thing}{say}。", "label": label, "group": thing}
        for thing in THINGS
        for label, ways in (("好评", PRAISE), ("差评", BLAME))
        for say in ways
    ]
